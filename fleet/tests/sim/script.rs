//! Stories with checked-in outputs: an operator reads what the engine does, and a reviewer reads the difference.
//!
//! A script is one command a line; `#` begins a comment, which the output keeps. The world is that of the simulator with
//! calm weather, so a story happens the same way every time. `UPDATE=1` writes the outputs anew.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::path::Path;
use std::time::Duration;

use muster_fleet::rollout::explain::explain;
use muster_fleet::rollout::view::BundleStanding;
use muster_fleet::rollout::{
    Actor, Freeze, Lease, OnFailure, Plan, Rollout, Selector, Size, SteppingStone, Verb, WaitingOn,
};
use muster_protocol::ids::RolloutId;
use muster_protocol::time::Timestamp;
use muster_protocol::trust::Consent;

use crate::boxes::EdgeBox;
use crate::nature::{Kind, Nature, bundle};
use crate::operators;
use crate::setting::{self, slot};
use crate::world::World;

type Told = Result<(), String>;

pub(crate) fn all() {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/scripts");
    #[expect(
        clippy::disallowed_methods,
        reason = "whoever runs the tests says whether outputs are written anew"
    )]
    let update = std::env::var("UPDATE").is_ok_and(|value| value == "1");
    let mut scripts: Vec<_> = fs::read_dir(&dir).unwrap().map(|entry| entry.unwrap().path()).collect();
    scripts.retain(|path| path.extension().is_some_and(|extension| extension == "script"));
    scripts.sort();
    assert!(scripts.len() >= 20, "stories are missing");
    let mut differ = Vec::new();
    for script in scripts {
        let found = play(&fs::read_to_string(&script).unwrap());
        let out = script.with_extension("out");
        if update {
            fs::write(&out, &found).unwrap();
        } else if fs::read_to_string(&out).ok().as_deref() != Some(found.as_str()) {
            differ.push(format!("{}:\n{found}", out.display()));
        }
    }
    assert!(
        differ.is_empty(),
        "these stories go otherwise (UPDATE=1 writes them anew):\n{}",
        differ.join("\n")
    );
}

fn play(script: &str) -> String {
    let mut stage = Stage::new();
    let mut out = String::new();
    for line in script.lines() {
        if line.is_empty() || line.starts_with('#') {
            let _ = writeln!(out, "{line}");
            continue;
        }
        let _ = writeln!(out, "> {line}");
        stage.world.story = Some(Vec::new());
        let mut told = String::new();
        if let Err(refused) = stage.command(&words(line), &mut told) {
            let _ = writeln!(told, "refused: {refused}");
        }
        for (at, sentence) in stage.world.story.take().unwrap_or_default() {
            let _ = writeln!(out, "  {}  {sentence}", stage.clock(at));
        }
        for line in told.lines() {
            let _ = writeln!(out, "  {line}");
        }
    }
    out
}

struct Stage {
    world: World,
    began: Timestamp,
    rollouts: BTreeMap<String, usize>,
}

impl Stage {
    fn new() -> Self {
        // Monday, 19 October 2026, 06:00 UTC.
        let began = Timestamp::from_seconds(1_792_389_600);
        let mut world = World::new(1, began);
        world.fleet.keeps_journal = true;
        Self { world, began, rollouts: BTreeMap::new() }
    }

    fn clock(&self, at: Timestamp) -> String {
        let seconds = at.since(self.began).as_secs() + 6 * 3600;
        let day = seconds / 86_400 + 1;
        format!("day {day} {:02}:{:02}", seconds / 3600 % 24, seconds / 60 % 60)
    }

    fn command(&mut self, words: &[String], out: &mut String) -> Told {
        let word = |n: usize| {
            words
                .get(n)
                .map(String::as_str)
                .ok_or_else(|| format!("a word is missing after '{}'", words[n - 1]))
        };
        match words[0].as_str() {
            "fleet" => self.fleet(word(1)?, &words[2..]),
            "site" => self.site(word(1)?, &words[2..]),
            "box" => self.tag(word(1)?, &words[2..]),
            "enrol" => self.enrol(word(1)?, &words[2..]),
            "bundle" => self.bundle(word(1)?, &words[2..]),
            "will" => self.will(word(1)?, word(2)?, word(3)?),
            "rollout" => self.rollout(word(1)?, word(2)?, &words[3..], out),
            "off" | "on" => self.reach(word(1)?, words[0] == "on"),
            "tick" => self.tick(word(1)?),
            "lease" => self.lease(word(1)?, word(2)?, word(3)?),
            "release" => self.release(word(1)?),
            "freeze" => self.freeze(word(1)?, words.get(2)),
            "thaw" => {
                self.world.fleet.freezes.clear();
                self.world.look_soon();
                Ok(())
            }
            "revoke" | "yank" => self.strike(&words[0], word(1)?),
            "agree" => {
                let on = self.number(word(1)?)?;
                self.world.agree(on).map_err(|broken| broken.sentence)
            }
            "show" => self.show(word(1)?, out),
            "explain" => self.explain(word(1)?, out),
            "waiting" => self.waiting(word(1)?, out),
            verb => self.act(verb, word(1)?, words.get(2), words.get(3)),
        }
    }

    fn number(&self, name: &str) -> Result<usize, String> {
        self.world
            .boxes
            .iter()
            .position(|edge| edge.name == name)
            .ok_or_else(|| format!("no box is called {name}"))
    }

    fn index(&self, name: &str) -> Result<usize, String> {
        self.rollouts.get(name).copied().ok_or_else(|| format!("no rollout is called {name}"))
    }

    fn fleet(&mut self, boxes: &str, rest: &[String]) -> Told {
        let boxes: usize = read(boxes)?;
        let sites: usize = read(option(rest, "sites").unwrap_or("1"))?;
        for number in 0..boxes {
            let site = format!("er-{}", number % sites + 1).parse().map_err(|_| "no site")?;
            self.world.add_box(EdgeBox::new(number, site, setting::hardware(0)), &slot(), &bundle("v1"));
        }
        Ok(())
    }

    fn enrol(&mut self, name: &str, rest: &[String]) -> Told {
        let site = option(rest, "site").unwrap_or("er-1").parse().map_err(|_| "no site")?;
        let mut edge = EdgeBox::new(self.world.boxes.len(), site, setting::hardware(0));
        edge.name = name.to_owned();
        self.world.add_box(edge, &slot(), &bundle("v1"));
        self.world.look_soon();
        Ok(())
    }

    fn site(&mut self, name: &str, rest: &[String]) -> Told {
        let site = self.world.site(&name.parse().map_err(|_| "no site")?);
        for (key, value) in pairs(rest) {
            let rules = &mut site.rules;
            match key {
                "zone" => rules.zone = value.parse().map_err(|error| format!("{error}"))?,
                "activate" => {
                    rules.activation.windows.push(value.parse().map_err(|error| format!("{error}"))?);
                }
                "download" => rules.download.windows.push(value.parse().map_err(|error| format!("{error}"))?),
                "consent" => rules.consent = Consent::Ask,
                "cap" => rules.in_flight_max = Some(read(value)?),
                other => return Err(format!("a site has no '{other}'")),
            }
        }
        self.world.look_soon();
        Ok(())
    }

    fn tag(&mut self, name: &str, rest: &[String]) -> Told {
        let on = self.number(name)?;
        let id = self.world.boxes[on].id.clone();
        let known = self.world.fleet.devices.get_mut(&id).ok_or("it left")?;
        for (key, value) in pairs(rest) {
            if key == "hardware" {
                known.hardware = value.parse().map_err(|_| "no hardware class")?;
            } else {
                known.tags.insert(key.parse().map_err(|_| "no tag")?, value.parse().map_err(|_| "no value")?);
            }
        }
        self.world.look_soon();
        Ok(())
    }

    fn bundle(&mut self, version: &str, rest: &[String]) -> Told {
        let nature = rest.first().map_or(Ok(Nature::Good), |word| nature(word))?;
        let mut kind = Kind::new(version, nature, 100);
        kind.unfit = option(rest, "not-on").map(|_| "arc-gpu");
        self.world.kinds.push(kind);
        Ok(())
    }

    fn will(&mut self, name: &str, version: &str, what: &str) -> Told {
        let (on, nature) = (self.number(name)?, nature(what)?);
        self.world.told.insert((on, bundle(version).sha256), nature);
        Ok(())
    }

    fn rollout(&mut self, name: &str, version: &str, rest: &[String], out: &mut String) -> Told {
        let (bake, deadline) =
            (span(option(rest, "bake").unwrap_or("6h"))?, span(option(rest, "deadline").unwrap_or("3d"))?);
        let sizes = rest.iter().filter(|word| !word.contains('=') || word.starts_with("where:"));
        let mut stages = Vec::new();
        for (n, size) in sizes.enumerate() {
            let size = if let Some(percent) = size.strip_suffix('%') {
                Size::Percent(read(percent)?)
            } else if let Some(filter) = size.strip_prefix("where:") {
                Size::Matching(filter.parse().map_err(|error| format!("{error}"))?)
            } else {
                Size::Count(read(size)?)
            };
            let mut stage =
                setting::stage(["canary", "second", "third", "fourth"][n.min(3)], size, bake, deadline);
            stage.quorum_percent = read(option(rest, "quorum").unwrap_or("100"))?;
            stage.gate.labels_min = read(option(rest, "labels").unwrap_or("0"))?;
            stage.exposure_device_hours_max = option(rest, "exposure").map(read).transpose()?;
            stages.push(stage);
        }
        if let Some(last) = stages.last_mut() {
            "everyone".clone_into(&mut last.name);
        }
        let mut plan = Plan::of(stages, Selector::default());
        if let Some(filter) = option(rest, "only") {
            plan.selector.filter = filter.replace(':', "=").parse().map_err(|error| format!("{error}"))?;
        }
        plan.in_flight_max = read(option(rest, "flight").unwrap_or("100"))?;
        plan.priority = read(option(rest, "priority").unwrap_or("500"))?;
        plan.approvals_min = read(option(rest, "approvals").unwrap_or("0"))?;
        if option(rest, "on-failure") == Some("hold") {
            plan.on_failure = OnFailure::Hold;
        }
        if let Some(via) = option(rest, "via") {
            plan.stepping_stones.push(SteppingStone { from: bundle("v1").path, via: bundle(via) });
        }
        let mut random = [0; 16];
        random[15] = u8::try_from(self.rollouts.len()).unwrap_or(0) + 1;
        let names = ("beds".parse().map_err(|_| "no model")?, slot());
        let by = (Actor::Person { name: "anna".to_owned() }, "new model".to_owned());
        let rollout =
            Rollout::start(RolloutId::mint(random), names, bundle(version), plan, by, self.world.now)
                .map_err(|error| error.to_string())?;
        let _ = writeln!(out, "{name}: {}", crate::story::phase(&rollout));
        let kind = self.world.kinds.iter().find(|kind| kind.bundle == rollout.bundle);
        let unfit = kind.and_then(|kind| kind.unfit).map(|class| class.parse().unwrap());
        self.rollouts.insert(name.to_owned(), self.world.fleet.rollouts.len());
        self.world.begin(rollout, unfit);
        Ok(())
    }

    fn reach(&mut self, what: &str, up: bool) -> Told {
        let of: Vec<usize> = (0..self.world.boxes.len())
            .filter(|&n| self.world.boxes[n].name == what || self.world.boxes[n].site.as_str() == what)
            .collect();
        if of.is_empty() {
            return Err(format!("nothing is called {what}"));
        }
        of.into_iter().try_for_each(|n| self.world.link(n, up)).map_err(|broken| broken.sentence)
    }

    fn tick(&mut self, time: &str) -> Told {
        let until = self.world.now.plus(span(time)?);
        loop {
            match self.world.step(until) {
                Ok(true) => {}
                Ok(false) => return Ok(()),
                Err(broken) => panic!("{} is broken: {}", broken.invariant, broken.sentence),
            }
        }
    }

    fn lease(&mut self, what: &str, reason: &str, time: &str) -> Told {
        let until = self.world.now.plus(span(time)?);
        let lease = Lease { owner: "mri".to_owned(), reason: reason.to_owned(), until };
        if let Ok(on) = self.number(what) {
            let id = self.world.boxes[on].id.clone();
            self.world.fleet.devices.get_mut(&id).ok_or("it left")?.leases.push(lease);
        } else {
            self.world.site(&what.parse().map_err(|_| "no site")?).leases.push(lease);
        }
        self.world.look_soon();
        Ok(())
    }

    fn release(&mut self, site: &str) -> Told {
        self.world.site(&site.parse().map_err(|_| "no site")?).leases.clear();
        self.world.look_soon();
        Ok(())
    }

    fn freeze(&mut self, reason: &str, site: Option<&String>) -> Told {
        let sites =
            site.map(|site| site.parse().map(|site| vec![site])).transpose().map_err(|_| "no site")?;
        let freeze =
            Freeze { since: self.world.now, by: "anna".to_owned(), reason: reason.to_owned(), sites };
        self.world.fleet.freezes.push(freeze);
        self.world.look_soon();
        Ok(())
    }

    fn strike(&mut self, how: &str, version: &str) -> Told {
        let standing = if how == "yank" {
            BundleStanding::Yanked
        } else {
            BundleStanding::Revoked { reason: "miscalibrated".to_owned() }
        };
        self.world.strike(&bundle(version), standing);
        Ok(())
    }

    fn act(&mut self, verb: &str, name: &str, reason: Option<&String>, by: Option<&String>) -> Told {
        let verb = crate::coverage::VERBS.iter().find(|known| known.as_str() == verb);
        let verb: Verb = *verb.ok_or("no such command")?;
        let by = by.and_then(|by| by.strip_prefix("by=")).unwrap_or("bela");
        let reason = reason.map_or("", String::as_str);
        let index = self.index(name)?;
        operators::verb_on(&mut self.world, index, verb, by, reason).map_err(|broken| broken.sentence)?
    }

    fn show(&self, name: &str, out: &mut String) -> Told {
        let saved = &self.world.fleet.rollouts[self.index(name)?];
        let _ = writeln!(out, "{name}: {}", crate::story::phase(&saved.rollout));
        for (n, stage) in saved.rollout.plan.stages.iter().enumerate() {
            let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
            for member in saved.members.values().filter(|member| member.stage == n) {
                *counts.entry(member.progress.name()).or_default() += 1;
            }
            let counts: Vec<String> = counts.iter().map(|(what, count)| format!("{count} {what}")).collect();
            let _ = writeln!(out, "{:<10} {}", stage.name, counts.join(", "));
        }
        Ok(())
    }

    fn explain(&self, name: &str, out: &mut String) -> Told {
        let index = self.index(name)?;
        let view = self.world.fleet.view(index, self.world.now);
        let saved = &self.world.fleet.rollouts[index];
        let mut all = explain(&saved.rollout, &saved.members, &view, self.world.now);
        all.sort_by_key(|one| self.world.numbers.get(&one.device));
        for one in all {
            let name = self.world.numbers.get(&one.device).map_or("", |&n| self.world.boxes[n].name.as_str());
            let _ = writeln!(out, "{name:<8} {:<10} {}; next: {}", one.state, one.sentence, one.next);
        }
        Ok(())
    }

    fn waiting(&self, name: &str, out: &mut String) -> Told {
        let saved = &self.world.fleet.rollouts[self.index(name)?];
        for WaitingOn { code, sentence, .. } in &saved.waiting_on {
            let _ = writeln!(out, "[{code}] {sentence}");
        }
        if saved.waiting_on.is_empty() {
            let _ = writeln!(out, "nothing");
        }
        Ok(())
    }
}

fn nature(word: &str) -> Result<Nature, String> {
    Ok(match word {
        "good" => Nature::Good,
        "fail-its-test" => Nature::FailsItsTest,
        "fail-to-activate" => Nature::FailsToActivate,
        "fail-late" => Nature::FailsLate,
        "be-wrong" => Nature::Wrong,
        "be-slow" => Nature::Slow,
        "run-hot" => Nature::Hot,
        "brick" => Nature::Bricks,
        "revert" => Nature::Reverts,
        other => return Err(format!("no bundle is '{other}'")),
    })
}

fn words(line: &str) -> Vec<String> {
    let mut words = Vec::new();
    let (mut word, mut quoted) = (String::new(), false);
    for letter in line.chars() {
        match letter {
            '"' => quoted = !quoted,
            ' ' if !quoted => words.extend((!word.is_empty()).then(|| std::mem::take(&mut word))),
            letter => word.push(letter),
        }
    }
    words.extend((!word.is_empty()).then_some(word));
    words
}

fn pairs(words: &[String]) -> impl Iterator<Item = (&str, &str)> {
    words.iter().filter_map(|word| word.split_once('='))
}

fn option<'a>(words: &'a [String], name: &str) -> Option<&'a str> {
    pairs(words).find(|(key, _)| *key == name).map(|(_, value)| value)
}

fn read<T: std::str::FromStr>(text: &str) -> Result<T, String> {
    text.parse().map_err(|_| format!("'{text}' is no number"))
}

fn span(text: &str) -> Result<Duration, String> {
    let (number, unit) = text.split_at(text.len() - 1);
    let number: u64 = read(number)?;
    let seconds = match unit {
        "m" => 60,
        "h" => 3600,
        "d" => 86_400,
        _ => return Err(format!("'{text}' is no span; write 30m, 6h or 2d")),
    };
    Ok(Duration::from_secs(number * seconds))
}
