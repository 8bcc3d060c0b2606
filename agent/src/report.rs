//! How the box is, and the report that says so together with what was counted since the last one.
//!
//! Looks at the machine at most twice a second, however fast the world runs, and only at what a report names.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use muster_protocol::ids::BootId;
use muster_protocol::limits::{LABEL_BLOCKS_PER_REPORT_MAX, PANES_PER_REPORT_MAX};
use muster_protocol::message::{Health, LabelBlock, ModelStats, Pane, Report, ShadowBlock};
use muster_protocol::time::Timestamp;
use sysinfo::{Components, Pid, ProcessRefreshKind, ProcessesToUpdate, System};

use crate::disk;
use crate::measure::STREAMS_PER_REPORT;

const LOOK_EVERY: Duration = Duration::from_millis(500);

#[derive(Debug)]
pub struct HealthProbe {
    /// Absent on a machine that lets itself not be looked at; its figures are then zero.
    system: Option<System>,
    components: Option<Components>,
    state_dir: PathBuf,
    looked: Option<(Instant, Health)>,
}

impl HealthProbe {
    pub fn new(state_dir: &Path) -> Self {
        let mut system = System::new().ok();
        if let Some(system) = &mut system {
            // CPU use is a difference: the first look only sets its start.
            system.refresh_cpu_usage();
        }
        let components = Components::new_with_refreshed_list().ok();
        Self { system, components, state_dir: state_dir.to_owned(), looked: None }
    }

    pub fn look(&mut self, now: Instant, spooled: usize) -> Health {
        let spooled = u32::try_from(spooled).unwrap_or(u32::MAX);
        if let Some((looked, health)) = &self.looked
            && now.saturating_duration_since(*looked) < LOOK_EVERY
        {
            return Health { spooled, ..health.clone() };
        }
        let health = Health { spooled, ..self.measure() };
        self.looked = Some((now, health.clone()));
        health
    }

    fn measure(&mut self) -> Health {
        let mut health = Health {
            uptime_s: System::uptime().unwrap_or(0),
            disk_free_bytes: disk::free_bytes(&self.state_dir).unwrap_or(0),
            temperature_c: self.components.as_mut().and_then(hottest),
            ..Health::default()
        };
        if let Some(system) = &mut self.system {
            let pid = Pid::from_u32(std::process::id());
            let memory = ProcessRefreshKind::nothing().with_memory();
            system.refresh_cpu_usage();
            system.refresh_memory();
            system.refresh_processes_specifics(ProcessesToUpdate::Some(&[pid]), false, memory);
            health.cpu_percent = system.global_cpu_usage();
            health.memory_used_bytes = system.used_memory();
            health.memory_total_bytes = system.total_memory();
            health.agent_rss_bytes = system.process(pid).map_or(0, sysinfo::Process::memory);
        }
        health
    }
}

fn hottest(components: &mut Components) -> Option<f32> {
    for component in components.iter_mut() {
        component.refresh();
    }
    components.iter().filter_map(sysinfo::Component::temperature).filter(|c| c.is_finite()).reduce(f32::max)
}

/// What was counted since the last report.
#[derive(Debug, Default)]
pub struct Counted {
    pub models: Vec<ModelStats>,
    pub panes: Vec<Pane>,
    pub labels: Vec<LabelBlock>,
    /// As many as fit one report.
    pub shadows: Vec<ShadowBlock>,
}

impl Counted {
    /// Nothing that a report should be made for early.
    pub fn is_quiet(&self) -> bool {
        self.panes.is_empty() && self.labels.is_empty() && self.shadows.is_empty()
    }

    /// As many reports as the bounds of one demand; the first carries the models' figures and the shadows'. The spool numbers them.
    /// A clock that was set back leaves no time between `from` and `to`.
    pub fn into_reports(self, boot: &BootId, from: Timestamp, to: Timestamp, health: &Health) -> Vec<Report> {
        let Self { models, panes, labels, mut shadows } = self;
        let from = from.min(to);
        let panes = that_fit(panes);
        let count = panes.len().max(labels.len().div_ceil(LABEL_BLOCKS_PER_REPORT_MAX)).max(1);
        let (mut models, mut panes, mut labels) = (models, panes.into_iter(), labels.into_iter());
        let one = |_| Report {
            boot: boot.clone(),
            sequence: 0,
            held_from: 0,
            from,
            to,
            health: health.clone(),
            models: std::mem::take(&mut models),
            panes: panes.next().unwrap_or_default(),
            labels: labels.by_ref().take(LABEL_BLOCKS_PER_REPORT_MAX).collect(),
            shadows: std::mem::take(&mut shadows),
        };
        (0..count).map(one).collect()
    }
}

/// In parts that each fit a report.
fn that_fit(panes: Vec<Pane>) -> Vec<Vec<Pane>> {
    let mut parts: Vec<Vec<Pane>> = Vec::new();
    let mut streams = 0;
    for pane in panes {
        streams += pane.streams.len();
        if let Some(part) = parts.last_mut().filter(|part| part.len() < PANES_PER_REPORT_MAX)
            && streams <= STREAMS_PER_REPORT
        {
            part.push(pane);
        } else {
            streams = pane.streams.len();
            parts.push(vec![pane]);
        }
    }
    parts
}

#[cfg(test)]
mod tests {
    use muster_protocol::drift::{Counter, Reference};
    use muster_protocol::ids::Digest;

    use super::*;
    use crate::clock::monotonic;

    #[test]
    fn this_machine_is_measured_and_not_too_often() {
        let mut probe = HealthProbe::new(Path::new("/"));
        let now = monotonic();
        let first = probe.look(now, 3);
        assert!(first.memory_total_bytes > 0 && first.agent_rss_bytes > 0 && first.disk_free_bytes > 0);
        assert!((0.0..=100.0).contains(&first.cpu_percent));
        let again = probe.look(now + Duration::from_millis(1), 4);
        assert_eq!(again, Health { spooled: 4, ..first });
    }

    #[test]
    fn much_is_cut_into_reports_and_nothing_is_lost() {
        let at = Timestamp::default();
        let pane = |i: u8| Pane {
            slot: "beds".parse().unwrap(),
            bundle: Digest::of(&[i]),
            from: at,
            to: at,
            streams: vec![],
        };
        let counted = Counted { panes: (0..130).map(pane).collect(), ..Counted::default() };
        let reports = counted.into_reports(&BootId::mint([1; 16]), at, at, &Health::default());
        assert_eq!(reports.iter().map(|report| report.panes.len()).collect::<Vec<_>>(), vec![64, 64, 2]);
        let counts = Counter::new(&Reference::numeric(&[1.0, 2.0, 3.0]).unwrap()).counts();
        let wide = |i: u8| Pane { streams: vec![counts.clone(); 700], ..pane(i) };
        let counted = Counted { panes: (0..5).map(wide).collect(), ..Counted::default() };
        let reports = counted.into_reports(&BootId::mint([1; 16]), at, at, &Health::default());
        assert_eq!(reports.iter().map(|report| report.panes.len()).collect::<Vec<_>>(), vec![2, 2, 1]);
        assert!(reports.iter().all(|report| report.encode().is_ok()));
        let quiet = Counted::default();
        assert!(quiet.is_quiet());
        assert_eq!(quiet.into_reports(&BootId::mint([1; 16]), at, at, &Health::default()).len(), 1);
    }

    #[test]
    fn a_clock_that_was_set_back_makes_a_report_of_no_time() {
        let (from, to) = (Timestamp::from_seconds(3600), Timestamp::from_seconds(60));
        let reports = Counted::default().into_reports(&BootId::mint([1; 16]), from, to, &Health::default());
        assert_eq!(reports.iter().map(|report| (report.from, report.to)).collect::<Vec<_>>(), [(to, to)]);
    }
}
