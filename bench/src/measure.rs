//! Measuring one piece of work: CPU time, allocations, instructions.
#![expect(unsafe_code, reason = "counting allocations and reading the thread's clock need it")]

use std::alloc::{GlobalAlloc, Layout, System};
use std::path::Path;
use std::process::Command;
use std::sync::atomic::{AtomicU64, Ordering};

static ALLOCATIONS: AtomicU64 = AtomicU64::new(0);

/// The system's allocator, counting. A benchmark makes it its `#[global_allocator]`.
pub struct Counting;

// SAFETY: everything is passed on to the system's allocator; counting allocates nothing.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.fetch_add(1, Ordering::Relaxed);
        // SAFETY: the caller keeps the contract of `alloc`.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, place: *mut u8, layout: Layout) {
        // SAFETY: `place` came from `System.alloc` with this layout.
        unsafe { System.dealloc(place, layout) }
    }
}

/// Allocations so far, of all threads.
pub fn allocations() -> u64 {
    ALLOCATIONS.load(Ordering::Relaxed)
}

/// Bytes that this process holds by its allocator, what the allocator itself needs for them included; not a number where
/// the allocator does not say.
pub fn live_bytes() -> f64 {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    {
        // SAFETY: the call only reads the allocator's counts.
        let counts = unsafe { libc::mallinfo2() };
        (counts.uordblks + counts.hblkhd) as f64
    }
    #[cfg(not(all(target_os = "linux", target_env = "gnu")))]
    f64::NAN
}

/// CPU time of this thread in nanoseconds; what other processes do on the machine does not count.
pub fn cpu_ns() -> u64 {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: `time` is a valid place to write to, and the call has no other effect.
    unsafe { libc::clock_gettime(libc::CLOCK_THREAD_CPUTIME_ID, &raw mut time) };
    time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64
}

/// A clock that all processes of this machine share, in nanoseconds.
pub fn machine_ns() -> u64 {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: `time` is a valid place to write to, and the call has no other effect.
    unsafe { libc::clock_gettime(libc::CLOCK_MONOTONIC, &raw mut time) };
    time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64
}

/// CPU time that a process has used, in nanoseconds.
pub fn process_cpu_ns(id: u32) -> u64 {
    let Ok(threads) = std::fs::read_dir(format!("/proc/{id}/task")) else { return 0 };
    let texts =
        threads.flatten().map(|thread| std::fs::read_to_string(thread.path().join("schedstat")));
    texts.flatten().filter_map(|text| text.split(' ').next()?.parse::<u64>().ok()).sum()
}

/// Memory that a process holds, in KiB.
pub fn process_rss_kib(id: u32) -> f64 {
    process_status_kib(id, "VmRSS:")
}

/// The most memory that a process has held, in KiB.
pub fn process_peak_kib(id: u32) -> f64 {
    process_status_kib(id, "VmHWM:")
}

fn process_status_kib(id: u32, name: &str) -> f64 {
    let status = std::fs::read_to_string(format!("/proc/{id}/status")).unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix(name));
    line.and_then(|line| line.split_whitespace().next()?.parse().ok()).unwrap_or(f64::NAN)
}

/// The value that a share of the sorted numbers do not exceed.
pub fn percentile(sorted: &[f64], share: f64) -> f64 {
    let rank = (share * sorted.len() as f64).ceil() as usize;
    sorted.get(rank.saturating_sub(1)).copied().unwrap_or(f64::NAN)
}

/// The median.
pub fn median(mut numbers: Vec<f64>) -> f64 {
    numbers.sort_by(f64::total_cmp);
    numbers.get(numbers.len() / 2).copied().unwrap_or(f64::NAN)
}

/// CPU nanoseconds of one call: the median of 15 samples of about 20 ms each.
pub fn ns_per_call(mut run: impl FnMut(u64)) -> f64 {
    const SAMPLES: usize = 15;
    const SAMPLE_NS: u64 = 20_000_000;
    let mut sample = |calls: u64| {
        let before = cpu_ns();
        run(calls);
        cpu_ns().saturating_sub(before)
    };
    let mut calls = 1;
    while sample(calls) < SAMPLE_NS / 2 && calls < 1 << 40 {
        calls *= 2;
    }
    median((0..SAMPLES).map(|_| sample(calls) as f64 / calls as f64).collect())
}

/// Allocations of one call.
pub fn allocations_per_call(mut run: impl FnMut(u64)) -> f64 {
    const CALLS: u64 = 100;
    run(1);
    let before = allocations();
    run(CALLS);
    (allocations() - before) as f64 / CALLS as f64
}

/// Instructions of one call, by running `program` under callgrind with few and with many calls and
/// taking the difference. `arguments` gives the program's arguments for a number of calls.
pub fn instructions_per_call(
    program: &Path,
    calls: u64,
    arguments: impl Fn(u64) -> Vec<String>,
) -> Result<f64, String> {
    let total = |calls: u64| {
        let output = Command::new("valgrind")
            .args(["--tool=callgrind", "--callgrind-out-file=/dev/null"])
            .arg(program)
            .args(arguments(calls))
            .output()
            .map_err(|error| format!("valgrind cannot be run: {error}"))?;
        let text = String::from_utf8_lossy(&output.stderr);
        let line = text.lines().find_map(|line| line.split("Collected :").nth(1));
        line.and_then(|number| number.trim().parse::<u64>().ok())
            .ok_or_else(|| format!("callgrind gave no count: {text}"))
    };
    Ok((total(calls + calls / 10)?.saturating_sub(total(calls / 10)?)) as f64 / calls as f64)
}
