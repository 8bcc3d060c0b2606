//! Made-up devices: columns of many shapes, with cycles, memory, day effects and wear, window by window.

use crate::noise::Noise;
use crate::store::Window;

/// A category that no reference has.
const UNSEEN: f32 = 99.0;

#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Family {
    /// Rows that know nothing of each other, with so many windows of reference.
    Independent { reference: usize },
    /// A day and a week, windows of 24 hours.
    Cycles,
    /// The same, and rows that resemble their neighbours, and days that differ.
    Memory,
    /// Three shifts a day, tools that wear and are changed, memory.
    Factory,
}

/// What happens to one column.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Change {
    Shift,
    Scale,
    Spike,
    Missing,
    Unseen,
}

impl Change {
    pub(crate) const ALL: [Self; 5] = [Self::Shift, Self::Scale, Self::Spike, Self::Missing, Self::Unseen];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Shift => "mean +0.5 sd",
            Self::Scale => "spread x1.5",
            Self::Spike => "10 % at one value",
            Self::Missing => "10 % missing",
            Self::Unseen => "5 % unseen category",
        }
    }
}

impl Family {
    pub(crate) const ALL: [Self; 5] = [
        Self::Independent { reference: 10 },
        Self::Independent { reference: 40 },
        Self::Cycles,
        Self::Memory,
        Self::Factory,
    ];

    pub(crate) fn name(self) -> String {
        match self {
            Self::Independent { reference } => format!("independent-{reference}"),
            Self::Cycles => "cycles".to_owned(),
            Self::Memory => "memory".to_owned(),
            Self::Factory => "factory".to_owned(),
        }
    }

    pub(crate) fn says(self) -> &'static str {
        match self {
            Self::Independent { reference: 10 } => "independent, n 500, 20 columns, 10 reference windows",
            Self::Independent { .. } => "independent, n 500, 20 columns, 40 reference windows",
            Self::Cycles => "daily and weekly cycles, 24 h, n 288, 10 columns, 84 reference windows",
            Self::Memory => "cycles, AR(0.98), AR(0.9), day effects, 24 h, n 288, 10 columns, 84",
            Self::Factory => "shifts, wear, AR(0.9), n 400, 10 columns, 90 reference windows",
        }
    }

    /// Windows of reference, and windows watched after it.
    pub(crate) fn windows(self) -> (usize, usize) {
        match self {
            Self::Independent { reference } => (reference, 100),
            Self::Cycles | Self::Memory => (84, 84),
            Self::Factory => (90, 90),
        }
    }

    /// Devices that our own rule watches.
    pub(crate) fn devices(self) -> u64 {
        match self {
            Self::Independent { .. } | Self::Cycles | Self::Memory => 100,
            Self::Factory => 60,
        }
    }

    fn rows(self) -> usize {
        match self {
            Self::Independent { .. } => 500,
            Self::Cycles | Self::Memory => 288,
            Self::Factory => 400,
        }
    }

    fn windows_a_day(self) -> usize {
        match self {
            Self::Independent { .. } | Self::Cycles | Self::Memory => 1,
            Self::Factory => 3,
        }
    }

    fn columns(self) -> Vec<Column> {
        let plain = |shape: Shape| Column { shape, ..Column::PLAIN };
        let shapes = [Shape::Normal, Shape::Skewed, Shape::Tied, Shape::Inflated];
        match self {
            Self::Independent { .. } => {
                let numeric = (0..18).map(|i| plain(if i < 10 { Shape::Normal } else { shapes[i % 4] }));
                numeric.chain([plain(Shape::Category), plain(Shape::Category)]).collect()
            }
            Self::Cycles => cyclic(10).collect(),
            Self::Memory => cyclic(5)
                .chain([
                    Column { daily: 0.5, memory: 0.9, ..Column::PLAIN },
                    Column { memory: 0.9, ..Column::PLAIN },
                    Column { memory: 0.98, ..Column::PLAIN },
                    Column { daily: 0.5, memory: 0.98, ..Column::PLAIN },
                    Column { daily: 0.5, day_effect: 0.2, ..Column::PLAIN },
                ])
                .collect(),
            Self::Factory => (0..10)
                .map(|i| Column {
                    shape: shapes[i % 3],
                    shift_cycle: if i % 2 == 0 { 0.3 } else { 0.0 },
                    wear: if i % 3 == 0 { 0.8 } else { 0.0 },
                    memory: if i % 4 == 1 { 0.9 } else { 0.0 },
                    ..Column::PLAIN
                })
                .collect(),
        }
    }
}

fn cyclic(count: usize) -> impl Iterator<Item = Column> {
    let shapes = [Shape::Normal, Shape::Skewed, Shape::Normal, Shape::Tied, Shape::Inflated, Shape::Category];
    (0..count).map(move |i| Column {
        shape: shapes[i % shapes.len()],
        daily: [1.0, 0.5, 0.8][i % 3],
        weekly: [0.5, 0.0][i % 2],
        ..Column::PLAIN
    })
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Shape {
    Normal,
    Skewed,
    /// Small whole numbers.
    Tied,
    /// Two of five are zero.
    Inflated,
    Category,
}

/// Everything in standard deviations of the column's noise.
#[derive(Clone, Copy, Debug)]
struct Column {
    shape: Shape,
    daily: f64,
    weekly: f64,
    /// Correlation of a row's noise with the row before.
    memory: f64,
    day_effect: f64,
    shift_cycle: f64,
    wear: f64,
}

impl Column {
    const PLAIN: Self = Self {
        shape: Shape::Normal,
        daily: 0.0,
        weekly: 0.0,
        memory: 0.0,
        day_effect: 0.0,
        shift_cycle: 0.0,
        wear: 0.0,
    };
}

/// One device, from the first window of its reference on.
#[derive(Debug)]
pub(crate) struct World {
    family: Family,
    columns: Vec<(Column, State)>,
    window: usize,
    noise: Noise,
}

#[derive(Clone, Copy, Debug, Default)]
struct State {
    noise: f64,
    day: f64,
    /// Windows that the tool has worked, and may.
    worked: f64,
    life: f64,
}

impl World {
    pub(crate) fn new(family: Family, seed: u64) -> Self {
        let mut noise = Noise::new(seed.wrapping_mul(0x5851_F42D_4C95_7F2D));
        let columns = family.columns().into_iter();
        let columns =
            columns.map(|column| (column, State { noise: noise.normal(), ..State::default() })).collect();
        Self { family, columns, window: 0, noise }
    }

    /// Which columns are categories.
    pub(crate) fn categorical(&self) -> Vec<bool> {
        self.columns.iter().map(|(column, _)| column.shape == Shape::Category).collect()
    }

    /// The column that a change happens to: the first normal one, or the first of categories.
    pub(crate) fn changed_column(&self, change: Change) -> usize {
        let wanted = if change == Change::Unseen { Shape::Category } else { Shape::Normal };
        self.columns.iter().position(|(column, _)| column.shape == wanted).unwrap_or(0)
    }

    pub(crate) fn windows(&mut self, count: usize) -> Vec<Window> {
        (0..count).map(|_| self.window(None)).collect()
    }

    pub(crate) fn window(&mut self, change: Option<Change>) -> Window {
        let changed = change.map(|change| (self.changed_column(change), change));
        let (rows, a_day) = (self.family.rows(), self.family.windows_a_day());
        let day = self.window / a_day;
        let first_of_day = self.window.is_multiple_of(a_day);
        let weekend = if day % 7 >= 5 { -1.0 } else { 0.0 };
        let shift = [-1.0, 0.0, 1.0][self.window % 3];
        let noise = &mut self.noise;
        let made = self.columns.iter_mut().enumerate().map(|(at, (column, state))| {
            if first_of_day {
                state.day = noise.normal();
            }
            if state.worked >= state.life {
                (state.worked, state.life) = (0.0, 5.0 + (noise.uniform() * 5.0).floor());
            }
            let change = changed.filter(|(of, _)| *of == at).map(|(_, change)| change);
            let level = column.weekly * weekend
                + column.day_effect * state.day
                + column.shift_cycle * shift
                + column.wear * (state.worked / state.life - 0.5);
            state.worked += 1.0;
            (0..rows)
                .map(|row| {
                    let hour = 24.0 * row as f64 / rows as f64 / a_day as f64;
                    let cycle = column.daily * (std::f64::consts::TAU * (hour - 8.0) / 24.0).sin();
                    let fresh = noise.normal();
                    state.noise =
                        column.memory * state.noise + (1.0 - column.memory * column.memory).sqrt() * fresh;
                    value(column.shape, cycle + level + state.noise, change, noise)
                })
                .collect()
        });
        let made = made.collect();
        self.window += 1;
        made
    }
}

#[expect(clippy::cast_possible_truncation, reason = "as models see their inputs")]
fn value(shape: Shape, z: f64, change: Option<Change>, noise: &mut Noise) -> f32 {
    let z = match change {
        Some(Change::Shift) => z + 0.5,
        Some(Change::Scale) => z * 1.5,
        Some(Change::Spike) if noise.uniform() < 0.10 => 0.7,
        Some(Change::Missing) if noise.uniform() < 0.10 => return f32::NAN,
        Some(Change::Unseen) if noise.uniform() < 0.05 => return UNSEEN,
        Some(Change::Spike | Change::Missing | Change::Unseen) | None => z,
    };
    let shaped = match shape {
        Shape::Normal => 50.0 + 10.0 * z,
        Shape::Skewed => (0.5 * z).exp(),
        Shape::Tied => (4.0 + 2.0 * z).round(),
        Shape::Inflated => {
            if noise.uniform() < 0.4 {
                0.0
            } else {
                (3.0 + z).max(0.0)
            }
        }
        Shape::Category => (z + 2.0).clamp(0.0, 4.0).floor(),
    };
    shaped as f32
}
