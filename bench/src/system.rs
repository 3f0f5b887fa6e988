//! What the operating system is asked for: cores, descriptors, processor time, memory.

use std::{fs, time::Duration};

use anyhow::{Context as _, Result};
use nix::{
    sched::{CpuSet, sched_getaffinity, sched_setaffinity},
    sys::resource::{Resource, getrlimit, setrlimit},
    time::ClockId,
    unistd::Pid,
};

/// As many open files as are allowed: thousands of connections need more than the usual 1,024.
pub(crate) fn raise_open_files() -> Result<()> {
    let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE)?;
    setrlimit(Resource::RLIMIT_NOFILE, hard, hard).context("cannot open more files")
}

/// Pins this process to one core, the same one in every process.
pub(crate) fn stay_on_one_core() -> Result<()> {
    let itself = Pid::from_raw(0);
    let allowed = sched_getaffinity(itself)?;
    // The last one: the first is the one that interrupts tend to go to.
    let core = (0..CpuSet::count())
        .rfind(|core| allowed.is_set(*core).unwrap_or(false))
        .context("there is no core to run on")?;
    let mut one = CpuSet::new();
    one.set(core)?;
    sched_setaffinity(itself, &one).context("cannot stay on one core")
}

/// A time that all processes of this machine agree on.
pub(crate) fn monotonic_time() -> Result<Duration> {
    Ok(ClockId::CLOCK_MONOTONIC.now()?.into())
}

/// A process that is measured.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Process {
    pid: u32,
    cpu_clock: ClockId,
}

impl Process {
    pub(crate) fn new(pid: u32) -> Result<Self> {
        let cpu_clock = ClockId::pid_cpu_clock_id(Pid::from_raw(pid.try_into()?))?;
        Ok(Process { pid, cpu_clock })
    }

    pub(crate) fn this() -> Result<Self> {
        Process::new(std::process::id())
    }

    /// The processor time that it has used so far, its own and the system's on its behalf.
    pub(crate) fn cpu_time(&self) -> Result<Duration> {
        Ok(self.cpu_clock.now()?.into())
    }

    /// The memory that it occupies. From `smaps_rollup`, since the figure in `status` lags behind.
    pub(crate) fn resident_kib(&self) -> Result<u64> {
        let path = format!("/proc/{}/smaps_rollup", self.pid);
        let text = fs::read_to_string(&path).with_context(|| format!("cannot read {path}"))?;
        text.lines()
            .find_map(|line| line.strip_prefix("Rss:"))
            .and_then(|rest| rest.trim().strip_suffix("kB")?.trim().parse().ok())
            .with_context(|| format!("no Rss in {path}"))
    }
}
