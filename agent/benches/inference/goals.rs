//! Goals and whether they are met.

use std::process::ExitCode;

#[derive(Debug, Default)]
pub(crate) struct Goals(Vec<Goal>);

#[derive(Debug)]
struct Goal {
    name: String,
    value: f64,
    unit: &'static str,
    limit: Limit,
}

#[derive(Clone, Copy, Debug)]
pub(crate) enum Limit {
    AtLeast(f64),
    AtMost(f64),
}

impl Goals {
    pub(crate) fn add(&mut self, name: &str, value: f64, unit: &'static str, limit: Limit) {
        self.0.push(Goal { name: name.to_owned(), value, unit, limit });
    }

    pub(crate) fn tell(&self) -> ExitCode {
        let mut all = true;
        for Goal { name, value, unit, limit } in &self.0 {
            let (met, wanted) = match limit {
                Limit::AtLeast(limit) => (value >= limit, format!(">= {limit:.2}")),
                Limit::AtMost(limit) => (value <= limit, format!("<= {limit:.2}")),
            };
            all &= met;
            println!(
                "goal {name}: {value:.2} {unit}, wanted {wanted}: {}",
                if met { "met" } else { "missed" }
            );
        }
        if all { ExitCode::SUCCESS } else { ExitCode::FAILURE }
    }
}
