//! Follows a rollout: bars on a terminal, one line a change in a pipe.
//!
//! It asks again every second instead of holding a stream: what it shows is always the whole truth of that moment, and
//! a server that restarts in between costs nothing but a pause.

use std::collections::BTreeSet;
use std::time::Duration;

use indicatif::{MultiProgress, ProgressBar, ProgressStyle};
use serde_json::Value;
use tokio::time::Instant;

use super::{path, stages, text, why};
use crate::cli::output::{Output, plain};
use crate::cli::{CliError, Context};

const LOOK_EVERY: Duration = Duration::from_secs(1);
/// How long a server may be away before we say so with exit code 4.
const AWAY_MAX: Duration = Duration::from_secs(30);

pub(super) async fn watch(
    context: &mut Context,
    id: &str,
    timeout: Option<Duration>,
) -> Result<(), CliError> {
    let client = context.client()?;
    let deadline = timeout.map(|timeout| Instant::now() + timeout);
    let mut view = View::new(&context.output);
    let mut answered = None;
    loop {
        match client.get(&path(id), &[]).await {
            Ok(rollout) => {
                answered = Some(Instant::now());
                view.show(&rollout, &mut context.output)?;
                if let Some(end) = ended(&rollout) {
                    view.close();
                    return end;
                }
            }
            // One that never answered is not there; one that did may be restarting.
            Err(error) if error.is_transient() && answered.is_some_and(|at| at.elapsed() < AWAY_MAX) => {}
            Err(error) => return Err(error.into()),
        }
        if deadline.is_some_and(|deadline| Instant::now() >= deadline) {
            view.close();
            return Err(CliError::TimedOut(format!(
                "the rollout {id} has not ended in the time given; it goes on"
            )));
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
}

fn ended(rollout: &Value) -> Option<Result<(), CliError>> {
    let phase = text(rollout, "/phase/is");
    match phase.as_str() {
        "completed" => Some(Ok(())),
        "aborted" | "rolled_back" | "superseded" => {
            let why = text(rollout, "/phase/reason/sentence");
            let because = if why.is_empty() { String::new() } else { format!(": {why}") };
            let what = phase.replace('_', " ");
            Some(Err(CliError::EndedBadly(format!(
                "the rollout {} was {what}{because}",
                text(rollout, "/id")
            ))))
        }
        _ => None,
    }
}

enum View {
    Bars { all: MultiProgress, bars: Vec<ProgressBar>, line: ProgressBar },
    Lines(Changes),
}

impl View {
    fn new(output: &Output) -> Self {
        if !output.is_terminal() {
            return Self::Lines(Changes::default());
        }
        let all = MultiProgress::new();
        let line = all.add(ProgressBar::new_spinner());
        line.set_style(style("{msg}"));
        Self::Bars { all, bars: Vec::new(), line }
    }

    fn show(&mut self, rollout: &Value, output: &mut Output) -> Result<(), CliError> {
        match self {
            Self::Lines(changes) => changes.of(rollout).iter().try_for_each(|line| output.line(line)),
            Self::Bars { all, bars, line } => {
                for (at, stage) in stages(rollout).iter().enumerate() {
                    if bars.len() <= at {
                        let bar = all.insert_before(line, ProgressBar::new(0));
                        bar.set_style(style("{prefix:>12} {bar:24} {pos}/{len} {msg}"));
                        bars.push(bar);
                    }
                    let number = |field: &str| stage.get(field).and_then(Value::as_u64).unwrap_or(0);
                    bars[at].set_length(number("target_devices"));
                    bars[at].set_position(number("activated"));
                    bars[at].set_prefix(plain(&text(stage, "/name"), ' '));
                    bars[at].set_message(plain(&stage_line(stage), ' '));
                }
                line.set_message(plain(&phase_line(rollout), ' '));
                line.tick();
                Ok(())
            }
        }
    }

    /// Leaves the last picture on the screen.
    fn close(&self) {
        if let Self::Bars { bars, line, .. } = self {
            bars.iter().chain([line]).for_each(ProgressBar::abandon);
        }
    }
}

/// What was said already.
#[derive(Default)]
struct Changes {
    phase: String,
    stages: Vec<String>,
    timeline: BTreeSet<String>,
}

impl Changes {
    fn of(&mut self, rollout: &Value) -> Vec<String> {
        let mut lines = Vec::new();
        for entry in rollout.get("timeline").and_then(Value::as_array).into_iter().flatten() {
            let line = format!("{} {}", text(entry, "/at"), text(entry, "/sentence"));
            if self.timeline.insert(line.clone()) {
                lines.push(line);
            }
        }
        for (at, stage) in stages(rollout).iter().enumerate() {
            let (name, done, all) =
                (text(stage, "/name"), text(stage, "/activated"), text(stage, "/target_devices"));
            let line = format!("stage {name}: {done}/{all} {}", stage_line(stage));
            if self.stages.get(at) != Some(&line) {
                self.stages.resize(self.stages.len().max(at + 1), String::new());
                self.stages[at].clone_from(&line);
                lines.push(line);
            }
        }
        let phase = phase_line(rollout);
        if phase != self.phase {
            lines.push(phase.clone());
            self.phase = phase;
        }
        lines
    }
}

fn stage_line(stage: &Value) -> String {
    let failed = stage.get("failed").and_then(Value::as_u64).filter(|&failed| failed > 0);
    let failed = failed.map(|failed| format!(", {failed} failed")).unwrap_or_default();
    let why =
        Some(why(stage)).filter(|why| !why.is_empty()).map(|why| format!(": {why}")).unwrap_or_default();
    format!("{}{failed}{why}", text(stage, "/state").replace('_', " "))
}

fn phase_line(rollout: &Value) -> String {
    let waiting = text(rollout, "/waiting_on/0/sentence");
    let because = text(rollout, "/phase/reason/sentence");
    let more = if because.is_empty() { waiting } else { because };
    let phase = text(rollout, "/phase/is").replace('_', " ");
    if more.is_empty() { phase } else { format!("{phase}: {more}") }
}

fn style(template: &str) -> ProgressStyle {
    // The templates are ours and fixed: a fault in one shows the default bar.
    ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_pipe_gets_one_line_a_change() {
        let mut changes = Changes::default();
        let mut rollout = json!({"id": "ro-1", "phase": {"is": "running"}, "timeline": [{"at": "T", "sentence": "started"}],
            "stages": [{"name": "canary", "target_devices": 1, "activated": 0, "failed": 0, "state": "handing_out"}]});
        assert_eq!(changes.of(&rollout), ["T started", "stage canary: 0/1 handing out", "running"]);
        assert!(changes.of(&rollout).is_empty());
        rollout["stages"][0]["activated"] = 1.into();
        assert_eq!(changes.of(&rollout), ["stage canary: 1/1 handing out"]);
        rollout["phase"] = json!({"is": "rolled_back", "reason": {"sentence": "worse on patients"}});
        assert_eq!(changes.of(&rollout), ["rolled back: worse on patients"]);
        let end = ended(&rollout).unwrap().unwrap_err();
        assert_eq!(end.to_string(), "the rollout ro-1 was rolled back: worse on patients");
    }
}
