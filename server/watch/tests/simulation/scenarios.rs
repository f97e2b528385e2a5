//! Healthy and harmful rollouts, an hour of ticks of five seconds each.

use switchback_watch::draw::{Binomial, Draw};
use switchback_watch::grid::{Cusum, Grid, Tick};

/// Ticks in an hour.
pub const TICKS: u64 = 720;
/// Seconds in a tick.
pub const TICK_S: f64 = 5.0;

/// Users and chance, treated and control.
type Part = (u64, f64, u64, f64);
/// The parts of which a tick's users consist.
type Parts = fn(u64) -> Vec<Part>;

/// A healthy service: what a tick sees.
pub struct Null {
    pub name: &'static str,
    pub tolerated: f64,
    pub parts: Parts,
}

const fn even(name: &'static str, parts: Parts) -> Null {
    Null { name, tolerated: 1.0, parts }
}

pub const NULLS: [Null; 10] = [
    even("2 %, 20 + 20 users a tick", |_| vec![(20, 0.02, 20, 0.02)]),
    even("2 %, 2 + 38 (5 % rollout)", |_| vec![(2, 0.02, 38, 0.02)]),
    even("0.2 %, 100 + 100", |_| vec![(100, 0.002, 100, 0.002)]),
    even("8 %, 20 + 20", |_| vec![(20, 0.08, 20, 0.08)]),
    even("2 %, ramp 1, 5, 10, 25, 50 % of 40", |tick| {
        let (treated, control) = ramp(tick);
        vec![(treated, 0.02, control, 0.02)]
    }),
    even("2 % and 15 % in turns of 5 min, 20 + 20", |tick| {
        let rate = if (tick / 60) % 2 == 0 { 0.02 } else { 0.15 };
        vec![(20, rate, 20, rate)]
    }),
    even("40 %, 20 + 20", |_| vec![(20, 0.4, 20, 0.4)]),
    even("2 %, two nodes of 10 + 10", |_| vec![(10, 0.02, 10, 0.02); 2]),
    even("half of the users 0.5 %, half 7.5 %, 20 + 20", |_| {
        vec![(10, 0.005, 10, 0.005), (10, 0.075, 10, 0.075)]
    }),
    Null {
        name: "2.4 % against 2 % with 1.2 tolerated, 20 + 20",
        tolerated: 1.2,
        parts: |_| vec![(20, 0.024, 20, 0.02)],
    },
];

/// Treated and control users of a tick: 40 of them, twelve minutes of each step.
pub fn ramp(tick: u64) -> (u64, u64) {
    let step = tick / (TICKS / 5);
    match step {
        // 1 % of 40 users is one in every two and a half ticks.
        0 => {
            if tick % 5 < 2 {
                (1, 39)
            } else {
                (0, 40)
            }
        }
        1 => (2, 38),
        2 => (4, 36),
        3 => (10, 30),
        _ => (20, 20),
    }
}

/// Distributions are made once for each different tick.
pub struct Source {
    parts: Parts,
    known: Vec<(Vec<Part>, Vec<[Binomial; 2]>)>,
    of_tick: Vec<usize>,
}

impl Source {
    pub fn new(parts: Parts, ticks: u64) -> Self {
        let mut source = Self { parts, known: Vec::new(), of_tick: Vec::new() };
        for tick in 0..ticks {
            let parts = (source.parts)(tick);
            let found = source.known.iter().position(|(known, _)| *known == parts);
            let index = found.unwrap_or_else(|| {
                let make = |(n, p, m, q): &Part| [Binomial::new(*n, *p), Binomial::new(*m, *q)];
                let made = parts.iter().map(make).collect();
                source.known.push((parts, made));
                source.known.len() - 1
            });
            source.of_tick.push(index);
        }
        source
    }

    pub fn tick(&self, tick: u64, draw: &mut Draw) -> Tick {
        let (parts, made) = &self.known[self.of_tick[tick as usize]];
        let mut sum = Tick::default();
        for ((treated, _, control, _), [in_treated, in_control]) in parts.iter().zip(made) {
            sum = sum.plus(&Tick {
                treated: *treated,
                treated_bad: draw.binomial(in_treated),
                control: *control,
                control_bad: draw.binomial(in_control),
            });
        }
        sum
    }
}

impl Null {
    /// How many of the healthy runs were taken back within an hour.
    pub fn alarms(&self, runs: u64, alpha: f64) -> u64 {
        let source = Source::new(self.parts, TICKS);
        let bound = -alpha.ln();
        let alarms = |run: &u64| {
            let (mut draw, mut grid) = (Draw::new(1_000_003 * run), Grid::default());
            for tick in 0..TICKS {
                grid.observe(&source.tick(tick, &mut draw), self.tolerated);
            }
            -grid.p_value().ln() >= bound
        };
        (0..runs).filter(alarms).count() as u64
    }
}

/// A service that is healthy for some ticks and harmed from then on.
#[derive(Clone, Copy)]
pub struct Harm {
    pub name: &'static str,
    /// Treated users a tick, and their chance once they are harmed.
    pub treated: (u64, f64),
    /// Control users and their chance, which is that of healthy treated ones too.
    pub control: (u64, f64),
    /// Ticks before the harm.
    pub healthy: u64,
}

const fn harm(name: &'static str, treated: (u64, f64), control: (u64, f64)) -> Harm {
    Harm { name, treated, control, healthy: 0 }
}

pub const HARMS: [Harm; 6] = [
    harm("2 % to 12 %, 20 + 20", (20, 0.12), (20, 0.02)),
    harm("2 % to 12 %, 2 + 38", (2, 0.12), (38, 0.02)),
    harm("2 % to 50 %, 2 + 38", (2, 0.5), (38, 0.02)),
    harm("0.2 % to 10 %, 5 + 95", (5, 0.1), (95, 0.002)),
    harm("2 % to 4 %, 20 + 20", (20, 0.04), (20, 0.02)),
    harm("40 % to 70 %, 20 + 20", (20, 0.7), (20, 0.4)),
];

impl Harm {
    /// Seconds from the harm to `sees`, median and 95th percentile. Runs that alarmed before it are left out.
    pub fn delays_by<S: Default>(
        &self,
        runs: u64,
        mut sees: impl FnMut(&mut S, &Tick) -> bool,
    ) -> (f64, f64) {
        let [healthy, harmed, control] = [
            Binomial::new(self.treated.0, self.control.1),
            Binomial::new(self.treated.0, self.treated.1),
            Binomial::new(self.control.0, self.control.1),
        ];
        let mut delays = Vec::new();
        for run in 0..runs {
            let (mut draw, mut state) = (Draw::new(7_000_003 * run + 1), S::default());
            let seen = (0..self.healthy + 4 * TICKS).find(|tick| {
                let treated = if *tick < self.healthy { &healthy } else { &harmed };
                let tick = Tick {
                    treated: self.treated.0,
                    treated_bad: draw.binomial(treated),
                    control: self.control.0,
                    control_bad: draw.binomial(&control),
                };
                sees(&mut state, &tick)
            });
            let seen = seen.unwrap_or(self.healthy + 4 * TICKS);
            if seen >= self.healthy {
                delays.push((seen - self.healthy + 1) as f64 * TICK_S);
            }
        }
        percentiles(delays)
    }

    /// By the evidence since the start.
    pub fn delays(&self, runs: u64, alpha: f64) -> (f64, f64) {
        let bound = -alpha.ln();
        self.delays_by(runs, |grid: &mut Grid, tick| {
            grid.observe(tick, 1.0);
            grid.evidence() >= bound
        })
    }

    /// By the search for a late change.
    pub fn late_delays(&self, runs: u64, ticks: f64) -> (f64, f64) {
        let bound = ticks.ln();
        self.delays_by(runs, |cusum: &mut Cusum, tick| {
            cusum.observe(tick, 1.0);
            cusum.evidence() >= bound
        })
    }
}

/// Median and 95th percentile.
pub fn percentiles(mut values: Vec<f64>) -> (f64, f64) {
    values.sort_by(f64::total_cmp);
    let at = |share: f64| values[((values.len() - 1) as f64 * share).round() as usize];
    (at(0.5), at(0.95))
}

/// The exact upper confidence limit of a share (Clopper and Pearson 1934): where `P(X <= k) = level`.
pub fn clopper_pearson_upper(k: u64, n: u64, level: f64) -> f64 {
    let at_most = |p: f64| {
        let mut term = (n as f64 * (-p).ln_1p()).exp();
        let mut sum = term;
        for i in 1..=k {
            term *= (n - i + 1) as f64 / i as f64 * p / (1.0 - p);
            sum += term;
        }
        sum
    };
    let (mut low, mut high) =
        (k as f64 / n as f64, ((k as f64 + 1.0) / n as f64 * 3.0 + 0.001).min(0.999));
    for _ in 0..80 {
        let middle = f64::midpoint(low, high);
        if at_most(middle) > level { low = middle } else { high = middle }
    }
    high
}
