//! Why a stream drifts: a broken device, the season, one site's own change, or a new regime that asks for retraining.
//!
//! ```text
//!   each device, each stream, against three references             who else sees it
//!   ─────────────────────────────────────────────────             ─────────────────
//!   calm against its own season's last weeks ────────────────────▶ KnownSeason    nothing to do
//!   drifts, and its site's other devices are calm ───────────────▶ DeviceFault    look at the sensor
//!   drifts, as half of its site's devices do ─┬ few sites ───────▶ SiteChange     ask that site
//!                                             └ half of the sites ▶ NewRegime      retrain
//! ```
//!
//! One reference is never enough. The training data alone would retrain every winter and for every broken sensor; a
//! device's own past alone would learn the harm in. Only a change that half of the sites see and no season explains
//! asks for retraining. Each finding carries the reason, so that a person need not believe it.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use super::Shift;
use crate::ids::{DeviceId, SiteName, StreamName};
use crate::time::Timestamp;

/// What one device's newest windows say of one stream, against one reference.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(tag = "is", rename_all = "snake_case")]
pub enum Reading {
    /// There is no such reference yet, or there were too few rows.
    #[default]
    Unknown,
    Calm,
    Drift {
        onset: Timestamp,
        shift: Option<Shift>,
    },
}

impl Reading {
    fn drifts(self) -> bool {
        match self {
            Self::Drift { .. } => true,
            Self::Unknown | Self::Calm => false,
        }
    }
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct StreamReadings {
    /// Against the bundle's reference.
    pub training: Reading,
    /// Against the device's or its site's own baseline.
    pub own: Reading,
    /// Against windows of the same hours and kind of day in the weeks before.
    pub season: Reading,
}

impl StreamReadings {
    /// Away from the training data or from what is normal there.
    pub fn drifts(&self) -> bool {
        self.own.drifts() || self.training.drifts()
    }
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct DeviceReadings {
    pub device: DeviceId,
    pub site: SiteName,
    pub streams: BTreeMap<StreamName, StreamReadings>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Cause {
    /// One device of several. An incident of that device; never a reason to retrain.
    DeviceFault,
    /// The model was not trained on this season, but it is one that came before.
    KnownSeason,
    /// The devices of some sites agree, other sites are calm.
    SiteChange,
    /// Half of the sites or more, and no season explains it.
    NewRegime,
}

impl Cause {
    pub fn asks_for_retraining(self) -> bool {
        match self {
            Self::NewRegime => true,
            Self::DeviceFault | Self::KnownSeason | Self::SiteChange => false,
        }
    }
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Attribution {
    pub cause: Cause,
    pub devices: BTreeSet<DeviceId>,
    pub sites: BTreeSet<SiteName>,
    /// Each with the largest shift that a device saw.
    pub streams: BTreeMap<StreamName, Option<Shift>>,
    pub onset: Timestamp,
    /// How it was told from the other causes, in one sentence.
    pub reason: String,
}

/// Finds the causes, the most serious last: at most one finding for each of the season, the sites and the regime, and
/// one for each faulty device.
pub fn attribute(devices: &[DeviceReadings]) -> Vec<Attribution> {
    let streams: BTreeSet<&StreamName> = devices.iter().flat_map(|device| device.streams.keys()).collect();
    let mut found: BTreeMap<(Cause, Option<&DeviceId>), Attribution> = BTreeMap::new();
    for stream in streams {
        let view = View::of(devices, stream);
        for (device, standing) in &view.told {
            let Some((cause, reason)) = view.cause(device, standing) else { continue };
            let own = (cause == Cause::DeviceFault).then_some(&device.device);
            let Some((onset, shift)) = standing.drift() else { continue };
            let attribution = found.entry((cause, own)).or_insert_with(|| Attribution {
                cause,
                devices: BTreeSet::new(),
                sites: BTreeSet::new(),
                streams: BTreeMap::new(),
                onset,
                reason,
            });
            attribution.devices.insert(device.device.clone());
            attribution.sites.insert(device.site.clone());
            attribution.onset = attribution.onset.min(onset);
            let known = attribution.streams.entry(stream.clone()).or_default();
            *known = larger(*known, shift);
        }
    }
    found.into_values().collect()
}

/// Where a device stands on one stream, the three references taken together.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Standing {
    Calm,
    Seasonal(Timestamp, Option<Shift>),
    Changed(Timestamp, Option<Shift>),
}

impl Standing {
    /// None: nothing can be told. A device's own past comes before the training data, which sites differ from for good;
    /// its season decides whether a difference is known, and also finds what a past of all hours is too wide to show.
    fn of(readings: &StreamReadings) -> Option<Self> {
        let StreamReadings { training, own, season } = *readings;
        let nearest = match own {
            Reading::Unknown => training,
            Reading::Calm | Reading::Drift { .. } => own,
        };
        match (nearest, season) {
            (Reading::Unknown, _) => None,
            (Reading::Drift { onset, shift }, Reading::Calm) => Some(Self::Seasonal(onset, shift)),
            (Reading::Drift { onset, shift }, Reading::Unknown | Reading::Drift { .. }) => {
                Some(Self::Changed(onset, shift))
            }
            (Reading::Calm, Reading::Drift { onset, shift }) if training.drifts() => {
                Some(Self::Changed(onset, shift))
            }
            (Reading::Calm, _) => Some(Self::Calm),
        }
    }

    fn drift(&self) -> Option<(Timestamp, Option<Shift>)> {
        match *self {
            Self::Calm => None,
            Self::Seasonal(onset, shift) | Self::Changed(onset, shift) => Some((onset, shift)),
        }
    }

    fn changed(&self) -> bool {
        match self {
            Self::Changed(..) => true,
            Self::Calm | Self::Seasonal(..) => false,
        }
    }
}

/// One stream, all devices that can tell.
struct View<'a> {
    told: Vec<(&'a DeviceReadings, Standing)>,
    /// Devices and sites that have the stream, whether they can tell or not.
    devices: usize,
    all_sites: usize,
    /// Devices that changed and that can tell, by site.
    sites: BTreeMap<&'a SiteName, Agreement>,
    /// Sites whose devices changed together, and sites that count as changed where sites are counted.
    agreed: usize,
    voted: usize,
}

#[derive(Clone, Copy, Debug, Default)]
struct Agreement {
    changed: usize,
    told: usize,
}

impl Agreement {
    /// Half of the devices or more, and no device alone while others could contradict it.
    fn changed_together(self) -> bool {
        self.changed * 2 >= self.told && self.changed >= 2
    }

    /// A site's only device votes for its site; by itself it may as well be broken.
    fn votes(self) -> bool {
        self.changed_together() || (self.told == 1 && self.changed == 1)
    }
}

impl<'a> View<'a> {
    fn of(devices: &'a [DeviceReadings], stream: &StreamName) -> Self {
        let having = || devices.iter().filter_map(|device| Some((device, device.streams.get(stream)?)));
        let told: Vec<(&DeviceReadings, Standing)> =
            having().filter_map(|(device, readings)| Some((device, Standing::of(readings)?))).collect();
        let all_sites = having().map(|(device, _)| &device.site).collect::<BTreeSet<_>>().len();
        let mut sites: BTreeMap<&SiteName, Agreement> = BTreeMap::new();
        for (device, standing) in &told {
            let site = sites.entry(&device.site).or_default();
            site.told += 1;
            site.changed += usize::from(standing.changed());
        }
        let agreed = sites.values().filter(|site| site.changed_together()).count();
        let voted = sites.values().filter(|site| site.votes()).count();
        Self { told, devices: having().count(), all_sites, sites, agreed, voted }
    }

    fn cause(&self, device: &DeviceReadings, standing: &Standing) -> Option<(Cause, String)> {
        match standing {
            Standing::Calm => None,
            Standing::Seasonal(..) => {
                let reason = "it has left the training data, but not what the same hours and days of the last weeks were like";
                Some((Cause::KnownSeason, reason.to_owned()))
            }
            Standing::Changed(..) => self.of_change(device),
        }
    }

    /// None while the others cannot tell: at night all of them may be suspicious, and nobody is the world by himself.
    fn of_change(&self, device: &DeviceReadings) -> Option<(Cause, String)> {
        let here = self.sites.get(&device.site).copied().unwrap_or_default();
        let Self { agreed, voted, .. } = *self;
        let all = self.sites.len();
        // One site of many that cannot tell is not the world either.
        let enough = self.all_sites == 1 || (all >= 2 && all * 4 >= self.all_sites);
        Some(if self.devices == 1 {
            (Cause::NewRegime, "there is no other device, so the device is taken for the world".to_owned())
        } else if self.told.len() == 1 {
            return None;
        } else if enough && voted * 2 >= all && (voted >= 2 || (all == 1 && here.changed_together())) {
            let reason = format!("{voted} of {all} sites changed together, and no season before was like it");
            (Cause::NewRegime, reason)
        } else if here.changed_together() {
            let reason = format!("the devices of {agreed} of {all} sites agree, no other site does");
            (Cause::SiteChange, reason)
        } else if here.told > 1 {
            let calm = here.told - here.changed;
            let reason = format!("{calm} other devices of site '{}' are calm", device.site);
            (Cause::DeviceFault, reason)
        } else {
            let calm = all - voted;
            let reason =
                format!("site '{}' has no other device, and {calm} other sites are calm", device.site);
            (Cause::DeviceFault, reason)
        })
    }
}

fn larger(a: Option<Shift>, b: Option<Shift>) -> Option<Shift> {
    match (a, b) {
        (Some(a), Some(b)) => Some(if b.sd.abs() > a.sd.abs() { b } else { a }),
        (one, None) | (None, one) => one,
    }
}

#[cfg(test)]
mod tests {
    use std::error::Error;

    use super::*;

    fn drift(day: i64, sd: f64) -> Reading {
        let shift = Some(Shift { sd, low: sd - 0.1, high: sd + 0.1 });
        Reading::Drift { onset: Timestamp::from_seconds(day * 86_400), shift }
    }

    fn changed(day: i64, sd: f64) -> StreamReadings {
        StreamReadings { training: drift(day, sd), own: drift(day, sd), season: drift(day, sd) }
    }

    fn calm() -> StreamReadings {
        StreamReadings { training: Reading::Calm, own: Reading::Calm, season: Reading::Unknown }
    }

    fn winter() -> StreamReadings {
        StreamReadings { training: drift(3, 0.9), own: drift(3, 0.9), season: Reading::Calm }
    }

    /// `sites` sites of `each` devices; `readings` says what device j of site i reads of "age".
    fn fleet(
        sites: usize,
        each: usize,
        readings: impl Fn(usize, usize) -> StreamReadings,
    ) -> Result<Vec<DeviceReadings>, Box<dyn Error>> {
        let mut devices = Vec::new();
        for site in 0..sites {
            for device in 0..each {
                devices.push(DeviceReadings {
                    device: format!("d-{:026}", site * 100 + device).parse()?,
                    site: format!("site-{site:02}").parse()?,
                    streams: BTreeMap::from([
                        ("age".parse()?, readings(site, device)),
                        ("pulse".parse()?, calm()),
                    ]),
                });
            }
        }
        Ok(devices)
    }

    fn causes(found: &[Attribution]) -> Vec<(Cause, usize, usize)> {
        found.iter().map(|found| (found.cause, found.sites.len(), found.devices.len())).collect()
    }

    #[test]
    fn a_calm_fleet_has_no_finding() -> Result<(), Box<dyn Error>> {
        assert_eq!(attribute(&fleet(20, 3, |_, _| calm())?), []);
        assert_eq!(attribute(&fleet(2, 2, |_, _| StreamReadings::default())?), []);
        assert_eq!(attribute(&[]), []);
        Ok(())
    }

    #[test]
    fn one_broken_device_is_its_own_finding_and_never_retrains() -> Result<(), Box<dyn Error>> {
        let found =
            attribute(&fleet(
                20,
                3,
                |site, device| {
                    if (site, device) == (4, 1) { changed(7, 2.0) } else { calm() }
                },
            )?);
        assert_eq!(causes(&found), [(Cause::DeviceFault, 1, 1)]);
        assert!(!found[0].cause.asks_for_retraining() && found[0].reason.contains("2 other devices"));
        assert_eq!(found[0].onset, Timestamp::from_seconds(7 * 86_400));
        assert_eq!(found[0].streams.keys().map(StreamName::as_str).collect::<Vec<_>>(), ["age"]);
        let lone = attribute(&fleet(20, 1, |site, _| if site == 4 { changed(7, 2.0) } else { calm() })?);
        assert_eq!(causes(&lone), [(Cause::DeviceFault, 1, 1)]);
        Ok(())
    }

    #[test]
    fn sites_that_changed_are_named() -> Result<(), Box<dyn Error>> {
        let found = attribute(&fleet(20, 3, |site, device| match (site, device) {
            (4, _) => changed(5, 0.8),
            (9, 0 | 1) => changed(6, 1.2),
            (_, _) => calm(),
        })?);
        assert_eq!(causes(&found), [(Cause::SiteChange, 2, 5)]);
        let sites: Vec<&str> = found[0].sites.iter().map(SiteName::as_str).collect();
        assert_eq!((sites, found[0].onset.as_seconds()), (vec!["site-04", "site-09"], 5 * 86_400));
        let shift = found[0].streams.values().next().copied().flatten().ok_or("no shift")?;
        assert!((shift.sd - 1.2).abs() < 1e-9);
        Ok(())
    }

    #[test]
    fn half_of_the_sites_are_a_new_regime() -> Result<(), Box<dyn Error>> {
        let half = |site, _| if site < 10 { changed(5, 0.8) } else { calm() };
        assert_eq!(causes(&attribute(&fleet(20, 3, half)?)), [(Cause::NewRegime, 10, 30)]);
        assert_eq!(causes(&attribute(&fleet(20, 1, half)?)), [(Cause::NewRegime, 10, 10)]);
        assert_eq!(causes(&attribute(&fleet(1, 3, |_, _| changed(5, 0.8))?)), [(Cause::NewRegime, 1, 3)]);
        assert_eq!(causes(&attribute(&fleet(1, 1, |_, _| changed(5, 0.8))?)), [(Cause::NewRegime, 1, 1)]);
        assert_eq!(
            causes(&attribute(&fleet(2, 3, |site, _| if site == 0 { changed(5, 0.8) } else { calm() })?)),
            [(Cause::SiteChange, 1, 3)]
        );
        let one_of_two = |_, device| if device == 0 { changed(5, 0.8) } else { calm() };
        assert_eq!(causes(&attribute(&fleet(1, 2, one_of_two)?)), [(Cause::DeviceFault, 1, 1)]);
        Ok(())
    }

    #[test]
    fn a_season_that_came_before_retrains_nothing() -> Result<(), Box<dyn Error>> {
        let found = attribute(&fleet(20, 3, |_, _| winter())?);
        assert_eq!(causes(&found), [(Cause::KnownSeason, 20, 60)]);
        assert!(!found[0].cause.asks_for_retraining());
        let broken_in_winter =
            attribute(&fleet(
                20,
                3,
                |site, device| {
                    if (site, device) == (0, 0) { changed(9, 3.0) } else { winter() }
                },
            )?);
        assert_eq!(causes(&broken_in_winter), [(Cause::DeviceFault, 1, 1), (Cause::KnownSeason, 20, 59)]);
        Ok(())
    }

    #[test]
    fn a_site_that_always_differed_from_training_is_calm() -> Result<(), Box<dyn Error>> {
        let habit = StreamReadings { training: drift(1, 0.4), own: Reading::Calm, season: Reading::Unknown };
        assert_eq!(attribute(&fleet(20, 3, |_, _| habit)?), []);
        let unusual = StreamReadings { season: drift(9, 2.0), ..habit };
        let one = |site, device| if (site, device) == (1, 1) { unusual } else { habit };
        assert_eq!(causes(&attribute(&fleet(20, 3, one)?)), [(Cause::DeviceFault, 1, 1)]);
        let new = StreamReadings { training: drift(1, 0.4), ..StreamReadings::default() };
        assert_eq!(causes(&attribute(&fleet(4, 2, |_, _| new)?)), [(Cause::NewRegime, 4, 8)]);
        Ok(())
    }

    #[test]
    fn the_order_of_devices_changes_nothing() -> Result<(), Box<dyn Error>> {
        let mut devices = fleet(6, 3, |site, device| match (site, device) {
            (0, _) => changed(5, 0.8),
            (1, 0) => changed(2, -2.0),
            (2, _) => winter(),
            (_, _) => calm(),
        })?;
        let found = attribute(&devices);
        devices.reverse();
        assert_eq!(attribute(&devices), found);
        assert_eq!(serde_json::from_str::<Vec<Attribution>>(&serde_json::to_string(&found)?)?, found);
        Ok(())
    }
}
