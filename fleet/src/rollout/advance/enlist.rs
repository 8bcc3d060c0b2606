//! Who takes part: the first look draws the cohort, later looks add who begins to match.

use std::collections::BTreeMap;

use super::look::Look;
use crate::rollout::draw;
use crate::rollout::reason::Code;
use crate::rollout::{LateJoiners, Member, Progress};

impl Look<'_> {
    pub(super) fn enlist(&mut self, open: usize) {
        if self.rows.iter().any(|row| row.member().is_some()) {
            self.let_join(open);
        } else {
            self.draw_cohort();
        }
    }

    fn draw_cohort(&mut self) {
        let stages: BTreeMap<_, _> = draw::stages(&self.rollout.plan, &self.rollout.bundle.sha256, self.view);
        for row in &mut self.rows {
            if let Some(&stage) = stages.get(row.id) {
                row.set(Member { stage, attempts: 0, progress: Progress::Waiting });
            }
        }
    }

    fn let_join(&mut self, open: usize) {
        let plan = &self.rollout.plan;
        let last = plan.stages.len().saturating_sub(1);
        for row in self.rows.iter_mut().filter(|row| row.member().is_none()) {
            let Some(device) = row.device else { continue };
            if !plan.selector.matches(&device.traits(row.id)) {
                continue;
            }
            let (stage, progress) = match plan.late_joiners {
                LateJoiners::CurrentStage => (open, Progress::Waiting),
                LateJoiners::LastStage => (last, Progress::Waiting),
                LateJoiners::Never => {
                    let cause = Code::Late.cause("it began to match after the rollout had begun");
                    (last, Progress::Excluded { at: self.now, cause })
                }
            };
            row.set(Member { stage, attempts: 0, progress });
        }
    }
}
