//! What is measured.

use std::time::Duration;

/// The pieces of work that a scenario may consist of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Work {
    /// Calls that add two numbers.
    Add,
    /// Calls that get their bytes back.
    Echo { bytes: usize },
    /// The same, with a handler that has to wait once.
    EchoAfterWaiting { bytes: usize },
    /// Connections that do nothing.
    Idle,
    /// The same to all connections, so many times before the publisher lets others run. None is
    /// lost.
    Push { burst: usize, way: Way },
    /// Items to all connections, of which only the latest of each kind wait for those that are
    /// behind.
    Latest,
    /// One stream of small items from the server.
    Stream,
    /// Small calls, one at a time, on a connection that does something else beside.
    HeadOfLine(Beside),
    /// A stream whose consumer stands still: the work of `stalled`, not of `compare`.
    Stalled,
    /// Items at a steady pace, to many clients and one that is stopped: the work of `stopped`.
    Stopped,
    /// The one that is stopped.
    StoppedReader,
}

/// How something is sent to all connections. It makes a difference to Wirecall alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Way {
    /// Notifications, to connections that the publisher knows.
    Peers,
    /// Notifications, to a group of the server's hub.
    Group,
    /// Items of a topic.
    Topic,
}

/// What a connection does beside small calls.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Beside {
    Nothing,
    Downloads,
    Uploads,
}

#[derive(Clone, Debug)]
pub(crate) struct Scenario {
    pub(crate) name: String,
    pub(crate) work: Work,
    pub(crate) connections: usize,
    /// Calls that each connection has in flight.
    pub(crate) in_flight: usize,
    /// Whether server and client share one core.
    pub(crate) one_core: bool,
    pub(crate) is_quick: bool,
}

/// The small body of calls, the body of a notification, and the bodies that are large.
pub(crate) const SMALL_BYTES: usize = 32;
pub(crate) const PUSH_BYTES: usize = 64;
pub(crate) const LARGE_BYTES: usize = 16 << 20;

const DEPTHS: [(usize, usize); 5] = [(1, 1), (1, 16), (1, 256), (1, 2048), (64, 16)];

/// All scenarios of `compare`, in the order in which they are run.
pub(crate) fn all() -> Vec<Scenario> {
    let mut scenarios = Vec::new();
    let groups = [
        ("add", Work::Add),
        ("echo32", Work::Echo { bytes: SMALL_BYTES }),
        ("echo4k", Work::Echo { bytes: 4 << 10 }),
    ];
    for (group, work) in groups {
        for (connections, in_flight) in DEPTHS {
            let name = format!("{group}/{connections}x{in_flight}");
            let mut scenario = Scenario::new(&name, work, connections, in_flight);
            scenario.is_quick = group == "echo32";
            scenarios.extend(scenario.free_and_on_one_core());
        }
    }
    let waiting = Work::EchoAfterWaiting { bytes: SMALL_BYTES };
    scenarios.extend(Scenario::new("1x256/pending", waiting, 1, 256).free_and_on_one_core());
    scenarios.push(Scenario::new("idle/5000", Work::Idle, 5000, 0).quick());
    for (name, burst, way) in [
        ("push/1000", 1, Way::Peers),
        ("push-burst/1000", 16, Way::Peers),
        ("fan-out/1000", 1, Way::Group),
        ("fan-out/1000x16", 16, Way::Group),
        ("topic/1000", 1, Way::Topic),
        ("topic/1000x16", 16, Way::Topic),
    ] {
        let scenario = Scenario::new(name, Work::Push { burst, way }, 1000, 0).quick();
        scenarios.extend(scenario.free_and_on_one_core());
    }
    let latest = Scenario::new("topic/1000/conflated", Work::Latest, 1000, 0).quick();
    scenarios.extend(latest.free_and_on_one_core());
    let stream = Scenario::new("stream/1", Work::Stream, 1, 0).quick();
    scenarios.extend(stream.free_and_on_one_core());
    for (name, beside) in [
        ("head-of-line/idle", Beside::Nothing),
        ("head-of-line", Beside::Downloads),
        ("head-of-line/up", Beside::Uploads),
    ] {
        scenarios.push(Scenario::new(name, Work::HeadOfLine(beside), 1, 1));
    }
    scenarios
}

impl Scenario {
    fn new(name: &str, work: Work, connections: usize, in_flight: usize) -> Self {
        Scenario {
            name: name.to_owned(),
            work,
            connections,
            in_flight,
            one_core: false,
            is_quick: false,
        }
    }

    /// The work of `stalled`.
    pub(crate) fn stalled() -> Self {
        Scenario::new("stalled", Work::Stalled, 1, 1)
    }

    /// The work of `stopped`.
    pub(crate) fn stopped() -> Self {
        Scenario::new("stopped", Work::Stopped, 1000, 0)
    }

    /// Its client that is stopped.
    pub(crate) fn stopped_reader() -> Self {
        Scenario::new("stopped/reader", Work::StoppedReader, 1, 0)
    }

    fn quick(mut self) -> Self {
        self.is_quick = true;
        self
    }

    fn free_and_on_one_core(self) -> [Scenario; 2] {
        let mut pinned = self.clone();
        pinned.name.push_str("@1core");
        pinned.one_core = true;
        [self, pinned]
    }

    pub(crate) fn named(name: &str) -> Result<Self, String> {
        all()
            .into_iter()
            .chain([
                Scenario::stalled(),
                Scenario::stopped(),
                Scenario::stopped_reader(),
            ])
            .find(|scenario| scenario.name == name)
            .ok_or_else(|| format!("there is no scenario {name:?}"))
    }

    /// Whether a user who asks for `pattern` means this one: its name, or what is before a slash.
    pub(crate) fn is_in(&self, pattern: &str) -> bool {
        self.name
            .strip_prefix(pattern)
            .is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
    }

    /// Whether the bytes on the wire are counted as well. One core or two makes no difference to
    /// those, and two depths show what is shared between calls.
    pub(crate) fn counts_wire_bytes(&self) -> bool {
        let is_small = matches!(self.work, Work::Add | Work::Echo { bytes: SMALL_BYTES });
        let is_shown = self.connections == 1 && [1, 256].contains(&self.in_flight);
        is_small && is_shown && !self.one_core
    }

    /// When something must be wrong.
    pub(crate) fn time_limit(&self) -> Duration {
        Duration::from_secs(match self.work {
            Work::Idle | Work::Push { .. } | Work::Latest => 60,
            Work::HeadOfLine(_) | Work::Stalled | Work::Stopped | Work::StoppedReader => 120,
            _ => 20,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_scenario_is_found_by_its_name() {
        for scenario in all() {
            assert_eq!(Scenario::named(&scenario.name).unwrap().work, scenario.work);
        }
    }

    #[test]
    fn a_pattern_is_a_name_or_a_group() {
        let chosen = |pattern: &str| -> Vec<String> {
            let all = all().into_iter();
            all.filter(|scenario| scenario.is_in(pattern))
                .map(|scenario| scenario.name)
                .collect()
        };
        assert_eq!(chosen("echo32/1x16"), ["echo32/1x16"]);
        assert_eq!(chosen("push"), ["push/1000", "push/1000@1core"]);
        assert_eq!(chosen("fan-out").len(), 4);
        assert_eq!(chosen("topic").len(), 6);
        assert_eq!(
            chosen("topic/1000"),
            [
                "topic/1000",
                "topic/1000/conflated",
                "topic/1000/conflated@1core"
            ]
        );
        assert_eq!(chosen("head-of-line").len(), 3);
        assert_eq!(chosen("echo32").len(), 2 * DEPTHS.len());
        assert!(chosen("echo").is_empty());
    }
}
