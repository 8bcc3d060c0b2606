//! All the luck of a run: one seed in, the same numbers out, on every machine and in every version of every library.

/// `SplitMix64`.
#[derive(Clone, Debug)]
pub(crate) struct Rng(u64);

impl Rng {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed ^ 0x6d75_7374_6572_2121)
    }

    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number below `n`, 0 if `n` is.
    pub(crate) fn below(&mut self, n: u64) -> u64 {
        self.next().checked_rem(n).unwrap_or(0)
    }

    pub(crate) fn between(&mut self, from: u64, until: u64) -> u64 {
        from + self.below(until.saturating_sub(from) + 1)
    }

    pub(crate) fn chance(&mut self, percent: u64) -> bool {
        self.below(100) < percent
    }

    pub(crate) fn pick<'a, T>(&mut self, of: &'a [T]) -> &'a T {
        &of[usize::try_from(self.below(of.len() as u64)).unwrap()]
    }
}

/// A number of its own for each `what` of a seed, whatever was drawn before it: a fact does not change with the weather.
pub(crate) fn fact(seed: u64, what: &[u64]) -> u64 {
    let mut rng = Rng::new(seed);
    for part in what {
        rng = Rng::new(rng.next() ^ part.wrapping_mul(0x2545_f491_4f6c_dd1d));
    }
    rng.next()
}
