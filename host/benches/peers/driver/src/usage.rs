//! Processor time and memory, from `/proc`: of a process with its children, and of the whole machine.

use std::collections::HashMap;
use std::fs;
use std::time::Duration;

use anyhow::Context as _;

/// The unit in which the kernel reports times to programs. It does not depend on the kernel's internal unit.
const TICK: Duration = Duration::from_millis(10);

/// Returns the processor time of a process and its descendants, including ended ones whose parent has waited for them.
pub fn of_process(id: u32) -> anyhow::Result<Duration> {
    let mut times = HashMap::new();
    let mut children: HashMap<u32, Vec<u32>> = HashMap::new();
    for entry in fs::read_dir("/proc")?.flatten() {
        let Some(process) = entry.file_name().to_str().and_then(|n| n.parse().ok()) else {
            continue;
        };
        // The file of a process that has just ended no longer exists.
        let Ok(stat) = fs::read_to_string(entry.path().join("stat")) else {
            continue;
        };
        let fields = parse_stat(&stat).context("/proc/*/stat has an unexpected format")?;
        times.insert(process, fields.own_ticks + fields.children_ticks);
        children.entry(fields.parent).or_default().push(process);
    }
    times
        .get(&id)
        .with_context(|| format!("process {id} is gone"))?;
    let mut ticks = 0;
    let mut ahead = vec![id];
    while let Some(process) = ahead.pop() {
        ticks += times.get(&process).copied().unwrap_or_default();
        ahead.extend(children.get(&process).into_iter().flatten());
    }
    Ok(TICK * ticks)
}

/// Returns the processor time of a process, without its children.
pub fn of_process_alone(id: u32) -> anyhow::Result<Duration> {
    let stat = fs::read_to_string(format!("/proc/{id}/stat"))?;
    let fields = parse_stat(&stat).context("/proc/*/stat has an unexpected format")?;
    Ok(TICK * fields.own_ticks)
}

/// Returns the processor time of the whole machine since its start.
pub fn of_machine() -> anyhow::Result<Duration> {
    let stat = fs::read_to_string("/proc/stat")?;
    let line = stat.lines().next().context("/proc/stat is empty")?;
    let ticks = parse_machine(line).context("/proc/stat has an unexpected format")?;
    Ok(TICK * ticks)
}

/// The memory of a process, without its children.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Memory {
    /// The resident memory in bytes, including memory shared with other processes.
    pub resident: u64,
    /// The same, but with only the process's share of shared memory.
    pub proportional: u64,
}

/// Returns the current memory of a process.
pub fn memory_of(id: u32) -> anyhow::Result<Memory> {
    let rollup = fs::read_to_string(format!("/proc/{id}/smaps_rollup"))?;
    parse_memory(&rollup).context("/proc/*/smaps_rollup has an unexpected format")
}

fn parse_memory(rollup: &str) -> Option<Memory> {
    let bytes = |name: &str| {
        let line = rollup.lines().find_map(|line| line.strip_prefix(name))?;
        let kilobytes = line.trim().strip_suffix(" kB")?;
        Some(kilobytes.parse::<u64>().ok()? * 1024)
    };
    Some(Memory {
        resident: bytes("Rss:")?,
        proportional: bytes("Pss:")?,
    })
}

/// The parsed fields of a process's `stat` file.
#[derive(Debug, PartialEq)]
struct Stat {
    parent: u32,
    own_ticks: u32,
    /// The ticks of the children that the process has waited for.
    children_ticks: u32,
}

fn parse_stat(stat: &str) -> Option<Stat> {
    // The fields follow the name, which is in parentheses and may contain anything.
    let (_, fields) = stat.rsplit_once(") ")?;
    let fields: Vec<_> = fields.split_ascii_whitespace().collect();
    let number = |index: usize| fields.get(index)?.parse::<u32>().ok();
    Some(Stat {
        parent: number(1)?,
        own_ticks: number(11)? + number(12)?,
        children_ticks: number(13)? + number(14)?,
    })
}

/// Returns the busy ticks of a line `cpu user nice system idle iowait irq softirq steal …`.
fn parse_machine(line: &str) -> Option<u32> {
    let fields = line.strip_prefix("cpu")?.split_ascii_whitespace();
    let ticks: Vec<u32> = fields.map(|f| f.parse().ok()).collect::<Option<_>>()?;
    let [user, nice, system, _, _, irq, softirq, steal, ..] = ticks[..] else {
        return None;
    };
    Some(user + nice + system + irq + softirq + steal)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_name_with_parentheses_is_parsed() {
        let stat = "42 (a) b) S 7 42 42 0 -1 0 1 2 3 4 100 20 3 4 20 0 1 0";
        let expected = Stat {
            parent: 7,
            own_ticks: 120,
            children_ticks: 7,
        };
        assert_eq!(parse_stat(stat), Some(expected));
    }

    #[test]
    fn memory_is_parsed_from_kilobytes() {
        let rollup =
            "55-7f ---p 0 00:00 0 [rollup]\nRss:    1024 kB\nPss:     512 kB\nPss_Dirty: 3 kB\n";
        let expected = Memory {
            resident: 1 << 20,
            proportional: 1 << 19,
        };
        assert_eq!(parse_memory(rollup), Some(expected));
        assert!(memory_of(std::process::id()).unwrap().resident > 0);
    }

    #[test]
    fn idle_and_iowait_ticks_are_not_counted_as_use() {
        assert_eq!(parse_machine("cpu  10 20 30 999 888 1 2 3 0 0"), Some(66));
    }

    #[test]
    fn this_process_uses_no_more_than_the_machine() {
        let own = of_process(std::process::id()).unwrap();
        assert!(own <= of_machine().unwrap());
    }
}
