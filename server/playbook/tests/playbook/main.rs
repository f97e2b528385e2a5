//! The engine against a world in memory: files, runs, deaths, faults.

#[cfg(test)]
mod archive;
#[cfg(test)]
mod blocks;
#[cfg(test)]
mod consistency;
#[cfg(test)]
mod crashes;
#[cfg(test)]
mod files;
#[cfg(test)]
mod model;
#[cfg(test)]
mod preconditions;
#[cfg(test)]
mod sessions;
#[cfg(test)]
mod support;
#[cfg(test)]
mod telling;
