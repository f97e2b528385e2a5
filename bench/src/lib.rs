//! What the benchmarks share: CPU time, allocations, instructions, tables; a real server, light clients
//! and the floor that they are held against.

pub mod fleet;
pub mod floor;
pub mod helper;
pub mod load;
pub mod measure;
pub mod server;
pub mod table;
