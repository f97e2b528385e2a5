//! What the benchmarks share: CPU time, allocations, instructions, tables.

pub mod measure;
pub mod table;
