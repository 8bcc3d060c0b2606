//! What all boxes that run one bundle say together: what happened, where, since when, and how it was told apart.
//!
//! ```text
//!   broken data ──────────────────────────────────────────▶ data quality   (such a stream says nothing of drift)
//!   alarms that chance gives so many boxes ───────────────▶ nothing yet    (such a box contradicts nobody)
//!   attribute: device · season · site · regime ───────────▶ and a regime that the training data know is a season
//!   baselines that differ from the training data ─────────▶ a notice
//! ```

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use muster_protocol::drift::{
    Attribution, Cause, DeviceReadings, QualityRule, Reading, Shift, StreamReadings, attribute, stand_out,
};
use muster_protocol::ids::{DeviceId, SiteName, StreamName};
use muster_protocol::time::Timestamp;
use serde::{Deserialize, Serialize};

use super::baseline::{Difference, Site};
use super::watch::{StreamWatch, Watch};

/// What happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// A site was never like the training data. A notice.
    SiteDiffers,
    /// It is a season that came before.
    KnownSeason,
    /// Values are missing, unseen or stuck: a sensor, an export or a mapping broke.
    DataQuality,
    /// One box, and those beside it are calm.
    DeviceFault,
    /// The boxes of a few sites agree.
    SiteChange,
    /// The model's answers do not come true any more.
    Performance,
    /// The world has changed.
    NewRegime,
}

impl Kind {
    pub const ALL: [Self; 7] = [
        Self::SiteDiffers,
        Self::KnownSeason,
        Self::DataQuality,
        Self::DeviceFault,
        Self::SiteChange,
        Self::Performance,
        Self::NewRegime,
    ];

    /// Whether a policy may be asked to retrain: the others are nothing that training could mend.
    pub fn may_ask(self) -> bool {
        match self {
            Self::Performance | Self::NewRegime => true,
            Self::SiteDiffers
            | Self::KnownSeason
            | Self::DataQuality
            | Self::DeviceFault
            | Self::SiteChange => false,
        }
    }

    /// Whether there can be one for each box, or each site.
    pub fn is_of_many(self) -> bool {
        match self {
            Self::DeviceFault | Self::SiteDiffers => true,
            Self::KnownSeason
            | Self::DataQuality
            | Self::SiteChange
            | Self::Performance
            | Self::NewRegime => false,
        }
    }

    pub fn name(self) -> &'static str {
        match self {
            Self::SiteDiffers => "site_differs",
            Self::KnownSeason => "known_season",
            Self::DataQuality => "data_quality",
            Self::DeviceFault => "device_fault",
            Self::SiteChange => "site_change",
            Self::Performance => "performance",
            Self::NewRegime => "new_regime",
        }
    }

    /// As a sentence begins.
    pub fn said(self) -> &'static str {
        match self {
            Self::SiteDiffers => "the site differs from the training data",
            Self::KnownSeason => "a known season",
            Self::DataQuality => "the data are broken",
            Self::DeviceFault => "one box alone has changed",
            Self::SiteChange => "the site has changed",
            Self::Performance => "the answers do not come true",
            Self::NewRegime => "the world has changed",
        }
    }
}

impl From<Cause> for Kind {
    fn from(cause: Cause) -> Self {
        match cause {
            Cause::DeviceFault => Self::DeviceFault,
            Cause::KnownSeason => Self::KnownSeason,
            Cause::SiteChange => Self::SiteChange,
            Cause::NewRegime => Self::NewRegime,
        }
    }
}

#[derive(Clone, Debug, PartialEq)]
pub struct Finding {
    pub kind: Kind,
    pub onset: Timestamp,
    pub devices: BTreeSet<DeviceId>,
    pub sites: BTreeSet<SiteName>,
    /// The strongest first.
    pub streams: Vec<FoundStream>,
    /// How it was told from the other kinds, in one sentence.
    pub reason: String,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct FoundStream {
    pub name: StreamName,
    /// The largest that a box saw, in reference standard deviations.
    pub shift: Option<Shift>,
    pub psi_adj: f64,
    pub b: f64,
    /// Boxes that see it.
    pub devices: usize,
    /// What broke, where data did.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub broken: Option<QualityRule>,
}

/// Where one box stands.
#[derive(Clone, Debug, PartialEq)]
pub struct Stand {
    pub device: DeviceId,
    pub site: SiteName,
    pub streams: BTreeMap<StreamName, StreamStand>,
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub struct StreamStand {
    pub readings: StreamReadings,
    pub psi_adj: f64,
    pub b: f64,
    /// That a calm box would give as much reason for an alarm; 1 if it is in none.
    pub chance: f64,
    pub broken: Option<(QualityRule, Timestamp)>,
}

impl Stand {
    pub fn of(device: DeviceId, name: SiteName, watch: &Watch, site: &Site, window: Duration) -> Self {
        let stand = |stream: &StreamWatch| {
            let mut readings = stream.readings();
            // While the site is learnt, what was always so there is no change.
            if let (Reading::Unknown, Reading::Drift { onset, .. }) = (readings.own, readings.training)
                && site.always_differed(onset, window)
            {
                readings.training = Reading::Unknown;
            }
            let (last, alarm) = (stream.judged().last, &stream.judged().alarm);
            // What an older program raised counts as sure.
            let chance = stream.onset().map_or(1.0, |_| alarm.chance().unwrap_or(0.0));
            StreamStand {
                readings,
                psi_adj: last.map_or(0.0, |look| look.psi_adj),
                b: last.map_or(1.0, |look| look.b),
                chance,
                broken: stream.broken().map(|broken| (broken.rule, broken.since)),
            }
        };
        let streams = watch.streams.iter().map(|(name, stream)| (name.clone(), stand(stream))).collect();
        Self { device, site: name, streams }
    }

    /// That a calm box would give as much reason as its surest stream.
    fn chance(&self) -> f64 {
        let sound = self.streams.values().filter(|stream| stream.broken.is_none());
        sound.map(|stream| stream.chance).fold(1.0, f64::min)
    }
}

/// Puts the boxes of one bundle together. `differing` are sites that never were like the training data.
pub fn assess(
    stands: &[&Stand],
    differing: &BTreeMap<SiteName, (Timestamp, Vec<Difference>)>,
) -> Vec<Finding> {
    let seasonal = seasonal(stands);
    let stands_out = stand_out(&stands.iter().map(|stand| stand.chance()).collect::<Vec<_>>());
    // Of ten thousand boxes most are calm, and so are most streams: only of the others there is anything to tell.
    let streams = || stands.iter().flat_map(|stand| &stand.streams);
    let drifting: BTreeSet<&StreamName> =
        streams().filter(|(_, stream)| stream.readings.drifts()).map(|(name, _)| name).collect();
    let reading = |name: &StreamName, stream: &StreamStand, stands_out: bool| {
        if !stands_out && stream.readings.drifts() {
            return (name.clone(), StreamReadings::default());
        }
        let mut readings = stream.readings;
        if seasonal.contains(name) && readings.season != Reading::Unknown {
            readings.season = Reading::Calm;
        }
        (name.clone(), readings)
    };
    let readings: Vec<DeviceReadings> = stands
        .iter()
        .zip(stands_out)
        .map(|(stand, stands_out)| DeviceReadings {
            device: stand.device.clone(),
            site: stand.site.clone(),
            // What is broken is not the world's, and says nothing of it.
            streams: stand
                .streams
                .iter()
                .filter(|(name, stream)| stream.broken.is_none() && drifting.contains(name))
                .map(|(name, stream)| reading(name, stream, stands_out))
                .collect(),
        })
        .collect();
    let mut found: Vec<Finding> = Vec::new();
    for attribution in with_the_world(attribute(&readings), stands) {
        let kind = Kind::from(attribution.cause);
        let finding = Finding {
            kind,
            onset: attribution.onset,
            devices: attribution.devices.clone(),
            sites: attribution.sites.clone(),
            streams: strongest(stands, &attribution.devices, &attribution.streams),
            reason: attribution.reason.clone(),
        };
        found.extend(split_trained(finding, stands));
    }
    found.extend(broken(stands));
    found.extend(differing.iter().map(|(site, (since, differs))| notice(site, *since, differs)));
    merge_equals(found)
}

/// A site's only box cannot be told from its site. So while the world changes for both, what else has changed there since is
/// not taken for a fault of the box.
fn with_the_world(mut found: Vec<Attribution>, stands: &[&Stand]) -> Vec<Attribution> {
    let Some(at) = found.iter().position(|one| one.cause == Cause::NewRegime) else { return found };
    let mut regime = found.remove(at);
    let mut boxes: BTreeMap<&SiteName, usize> = BTreeMap::new();
    for stand in stands {
        *boxes.entry(&stand.site).or_default() += 1;
    }
    let (along, mut rest): (Vec<_>, Vec<_>) = found.into_iter().partition(|one| {
        one.cause == Cause::DeviceFault
            && one.onset >= regime.onset
            && one.devices.is_subset(&regime.devices)
            && one.sites.iter().all(|site| boxes.get(site) == Some(&1))
    });
    for (stream, shift) in along.into_iter().flat_map(|one| one.streams) {
        regime.streams.entry(stream).or_insert(shift);
    }
    rest.push(regime);
    rest
}

/// Streams of which most boxes that drift say that it is the season: then it is so for the others, too, which happen to
/// have seen fewer rows of it.
fn seasonal<'a>(stands: &[&'a Stand]) -> BTreeSet<&'a StreamName> {
    let mut votes: BTreeMap<&StreamName, (usize, usize)> = BTreeMap::new();
    for (name, stream) in stands.iter().flat_map(|stand| &stand.streams) {
        match stream.readings.season {
            Reading::Calm => votes.entry(name).or_default().0 += 1,
            Reading::Drift { .. } => votes.entry(name).or_default().1 += 1,
            Reading::Unknown => {}
        }
    }
    let most = |(_, (season, change)): &(&StreamName, (usize, usize))| season > change;
    votes.into_iter().filter(most).map(|(name, _)| name).collect()
}

/// What the model was trained on is a season, whatever the site's own weeks of learning were like. Boxes that are only
/// suspicious against the training data do not say which it is; a stream of which nobody can say it waits.
fn split_trained(change: Finding, stands: &[&Stand]) -> Vec<Finding> {
    let (mut new, mut trained) = (Vec::new(), Vec::new());
    for stream in &change.streams {
        let boxes = stands.iter().filter(|stand| change.devices.contains(&stand.device));
        let readings = boxes.filter_map(|stand| Some(stand.streams.get(&stream.name)?.readings));
        let (mut says_new, mut says_trained) = (0, 0);
        for StreamReadings { own, training, .. } in readings {
            match (own, training) {
                (_, Reading::Drift { .. }) => says_new += 1,
                (Reading::Drift { .. }, Reading::Calm) => says_trained += 1,
                (_, Reading::Unknown) | (Reading::Calm | Reading::Unknown, Reading::Calm) => {}
            }
        }
        if says_new > says_trained {
            new.push(stream.clone());
        } else if says_trained > 0 {
            trained.push(stream.clone());
        }
    }
    let season = Finding {
        kind: Kind::KnownSeason,
        streams: trained,
        reason: "the sites have left what they were like when they were learnt, but not what the model was trained on"
            .to_owned(),
        ..change.clone()
    };
    let split = [Finding { streams: new, ..change }, season];
    split.into_iter().filter(|finding| !finding.streams.is_empty()).collect()
}

fn strongest(
    stands: &[&Stand],
    devices: &BTreeSet<DeviceId>,
    streams: &BTreeMap<StreamName, Option<Shift>>,
) -> Vec<FoundStream> {
    let mut found: Vec<FoundStream> = streams
        .iter()
        .map(|(name, shift)| {
            let (name, shift) = (name.clone(), *shift);
            FoundStream { name, shift, psi_adj: 0.0, b: 1.0, devices: 0, broken: None }
        })
        .collect();
    for stand in stands.iter().filter(|stand| devices.contains(&stand.device)) {
        for stream in &mut found {
            let Some(seen) = stand.streams.get(&stream.name) else { continue };
            if seen.readings.drifts() {
                stream.devices += 1;
                stream.psi_adj = stream.psi_adj.max(seen.psi_adj);
                stream.b = stream.b.min(seen.b);
            }
        }
    }
    found.sort_by(|a, b| b.psi_adj.total_cmp(&a.psi_adj).then_with(|| a.name.cmp(&b.name)));
    found
}

/// One finding for all broken data, so that a broken export at a thousand boxes is one thing to look at.
fn broken(stands: &[&Stand]) -> Option<Finding> {
    let mut streams: BTreeMap<StreamName, FoundStream> = BTreeMap::new();
    let (mut devices, mut sites) = (BTreeSet::new(), BTreeSet::new());
    let mut onset: Option<Timestamp> = None;
    for stand in stands {
        for (name, stream) in &stand.streams {
            let Some((rule, since)) = stream.broken else { continue };
            let found = streams.entry(name.clone()).or_insert_with(|| FoundStream {
                name: name.clone(),
                shift: None,
                psi_adj: 0.0,
                b: 1.0,
                devices: 0,
                broken: Some(rule),
            });
            found.devices += 1;
            found.psi_adj = found.psi_adj.max(stream.psi_adj);
            found.b = found.b.min(stream.b);
            devices.insert(stand.device.clone());
            sites.insert(stand.site.clone());
            onset = Some(onset.map_or(since, |known| known.min(since)));
        }
    }
    let mut streams: Vec<FoundStream> = streams.into_values().collect();
    streams.sort_by(|a, b| b.devices.cmp(&a.devices).then_with(|| a.name.cmp(&b.name)));
    let reason = format!(
        "rates left their limits in two of three windows on {} of {} boxes",
        devices.len(),
        stands.len()
    );
    Some(Finding { kind: Kind::DataQuality, onset: onset?, devices, sites, streams, reason })
}

fn notice(site: &SiteName, since: Timestamp, differs: &[Difference]) -> Finding {
    let stream = |difference: &Difference| FoundStream {
        name: difference.stream.clone(),
        shift: difference.shift,
        psi_adj: difference.psi_adj,
        b: difference.b,
        devices: 0,
        broken: None,
    };
    Finding {
        kind: Kind::SiteDiffers,
        onset: since,
        devices: BTreeSet::new(),
        sites: BTreeSet::from([site.clone()]),
        streams: differs.iter().map(stream).collect(),
        reason: "its boxes are compared with the site itself from now on, and the model was not trained on such a site"
            .to_owned(),
    }
}

/// Findings of the fleet's kinds are one each.
fn merge_equals(found: Vec<Finding>) -> Vec<Finding> {
    let mut merged: Vec<Finding> = Vec::new();
    for finding in found {
        let same = |known: &&mut Finding| known.kind == finding.kind && finding.kind == Kind::KnownSeason;
        match merged.iter_mut().find(same) {
            Some(known) => {
                known.onset = known.onset.min(finding.onset);
                known.devices.extend(finding.devices);
                known.sites.extend(finding.sites);
                for stream in finding.streams {
                    if !known.streams.iter().any(|other| other.name == stream.name) {
                        known.streams.push(stream);
                    }
                }
            }
            None => merged.push(finding),
        }
    }
    merged
}
