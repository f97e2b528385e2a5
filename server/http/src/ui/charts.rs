//! Lines and bars over time, as shapes of an SVG. All charts of a page share one time axis.

use super::words::format_at;

/// Width of a chart in its own units.
pub const WIDTH: f64 = 960.0;
/// Height of its field.
pub const HEIGHT: f64 = 110.0;
/// Points at most: more are added up.
const POINTS_MAX: usize = 96;

/// Where the points of a page's charts lie.
pub struct Axis {
    /// When each point begins, in UTC milliseconds.
    pub at: Vec<i64>,
    /// How long a point lasts, in milliseconds.
    pub step_ms: i64,
    /// Cells that a point adds up.
    merged: usize,
    from: i64,
    until: i64,
}

impl Axis {
    /// An axis for cells that begin at `at` and last `width_s` seconds.
    pub fn of(at: &[i64], width_s: i64) -> Self {
        let merged = at.len().div_ceil(POINTS_MAX).max(1);
        let step_ms = width_s * 1000 * merged as i64;
        let at: Vec<i64> = at.iter().step_by(merged).copied().collect();
        let from = at.first().copied().unwrap_or(0);
        let until = at.last().map_or(from + step_ms, |last| last + step_ms);
        Self { at, step_ms, merged, from, until }
    }

    /// Adds cells up to points.
    pub fn merge(&self, cells: &[u64]) -> Vec<u64> {
        cells.chunks(self.merged).map(|chunk| chunk.iter().sum()).collect()
    }

    /// Where a moment lies.
    pub fn x(&self, at: i64) -> f64 {
        let share = (at - self.from) as f64 / (self.until - self.from).max(1) as f64;
        round((share * WIDTH).clamp(0.0, WIDTH))
    }

    /// For each point its time and what is said of it.
    fn readings(&self, said: impl Fn(usize) -> String) -> Vec<String> {
        let points = self.at.iter().enumerate();
        points.map(|(place, at)| format!("{}: {}", self.label(*at), said(place))).collect()
    }

    /// Whether a moment lies on it.
    pub fn holds(&self, at: i64) -> bool {
        (self.from..self.until).contains(&at)
    }

    /// The words below it, with their places in percent of its width. A short time has fewer of them:
    /// none is said twice.
    pub fn ticks(&self) -> Vec<(f64, String)> {
        let span = self.until - self.from;
        let format = if span > 2 * 86_400_000 { "%b %-d" } else { "%H:%M" };
        let tick =
            |n: i32| (f64::from(n) * 25.0, format_at(self.from + span * i64::from(n) / 4, format));
        let mut ticks: Vec<_> = (0..=4).map(tick).collect();
        ticks.dedup_by(|later, earlier| later.1 == earlier.1);
        ticks
    }

    /// When a point begins, in words.
    pub fn label(&self, at: i64) -> String {
        let span = self.until - self.from;
        let format = match (span > 2 * 86_400_000, self.step_ms < 60_000) {
            (true, _) => "%b %-d %H:%M",
            (false, true) => "%H:%M:%S",
            (false, false) => "%H:%M",
        };
        format_at(at, format)
    }
}

/// How the words at a place, in percent, stand to it, so that none leaves the chart.
pub fn anchor(percent: &f64) -> &'static str {
    match *percent {
        ..5.0 => "start",
        95.0.. => "end",
        _ => "middle",
    }
}

/// A stack of bars, or lines.
pub struct Chart {
    /// What it shows.
    pub title: &'static str,
    /// What its top is.
    pub top: String,
    /// Bars, the lowest of each stack first.
    pub bars: Vec<Bar>,
    /// Lines.
    pub lines: Vec<Line>,
    /// A line to stay below: where it lies, and what it is.
    pub target: Option<(f64, String)>,
    /// What is drawn, by class.
    pub legend: Vec<(usize, &'static str)>,
    /// What each point says, for the crosshair.
    pub readings: Vec<String>,
    /// When the first point begins, in UTC milliseconds.
    pub from: i64,
    /// How long a point lasts, in milliseconds.
    pub step_ms: i64,
}

impl Chart {
    /// The readings as JSON.
    pub fn readings_json(&self) -> String {
        serde_json::Value::from(self.readings.clone()).to_string()
    }
}

/// A bar.
pub struct Bar {
    pub class: usize,
    pub x: f64,
    pub y: f64,
    pub width: f64,
    pub height: f64,
    pub label: String,
}

/// A line; parted where nothing is known.
pub struct Line {
    pub class: usize,
    /// For each part the points of a polyline.
    pub parts: Vec<String>,
}

impl Chart {
    /// Bars on each other, of counts.
    pub fn stacked(
        title: &'static str,
        axis: &Axis,
        series: &[(usize, &'static str, Vec<u64>)],
    ) -> Self {
        let height = |place: usize| -> u64 {
            series.iter().filter_map(|(_, _, counts)| counts.get(place)).sum()
        };
        let top = (0..axis.at.len()).map(height).max().unwrap_or(0).max(1);
        let width = WIDTH / axis.at.len().max(1) as f64;
        let mut bars = Vec::new();
        for (place, at) in axis.at.iter().enumerate() {
            let mut below = 0.0;
            for (class, name, counts) in series {
                let count = counts.get(place).copied().unwrap_or(0);
                if count == 0 {
                    continue;
                }
                let tall = count as f64 / top as f64 * HEIGHT;
                below += tall;
                bars.push(Bar {
                    class: *class,
                    x: axis.x(*at),
                    y: round(HEIGHT - below),
                    width: round((width - 1.0).max(0.8)),
                    height: round(tall),
                    label: format!("{} {name}: {count}", axis.label(*at)),
                });
            }
        }
        let legend = series.iter().map(|(class, name, _)| (*class, *name)).collect();
        let said = |place: usize| {
            let of = |(_, name, counts): &(usize, &'static str, Vec<u64>)| {
                let count = counts.get(place).copied().unwrap_or(0);
                format!("{name} {}", super::words::number(count))
            };
            series.iter().map(of).collect::<Vec<_>>().join(", ")
        };
        Self {
            title,
            top: super::words::number(top),
            bars,
            lines: Vec::new(),
            target: None,
            legend,
            readings: axis.readings(said),
            from: axis.from,
            step_ms: axis.step_ms,
        }
    }

    /// Lines of values; `least` is the smallest top of the scale, `unit` stands behind its number.
    pub fn lines(
        title: &'static str,
        axis: &Axis,
        series: &[(usize, &'static str, Vec<Option<f64>>)],
        (least, unit): (f64, &str),
        target: Option<(f64, &str)>,
    ) -> Self {
        let values = series.iter().flat_map(|(_, _, values)| values.iter().flatten());
        let highest = values.copied().fold(least, f64::max).max(target.map_or(0.0, |(at, _)| at));
        let top = nice(highest);
        let y = |value: f64| round(HEIGHT - (value / top).clamp(0.0, 1.0) * HEIGHT);
        let half = axis.step_ms / 2;
        let line = |(class, _, values): &(usize, &'static str, Vec<Option<f64>>)| {
            let mut parts: Vec<String> = Vec::new();
            let mut open: Vec<(i64, f64)> = Vec::new();
            let ended = |part: &[(i64, f64)]| {
                let place = |(at, y): &(i64, f64)| format!("{},{y}", axis.x(*at));
                match part {
                    // Alone it is as wide as its step: a point has no length, and would not be seen.
                    [(at, y)] => place(&(at - half, *y)) + " " + &place(&(at + half, *y)),
                    more => more.iter().map(place).collect::<Vec<_>>().join(" "),
                }
            };
            for (at, value) in axis.at.iter().zip(values) {
                match value {
                    Some(value) => open.push((at + half, y(*value))),
                    None if open.is_empty() => {}
                    None => parts.push(ended(&std::mem::take(&mut open))),
                }
            }
            if !open.is_empty() {
                parts.push(ended(&open));
            }
            Line { class: *class, parts }
        };
        let said = |place: usize| {
            let of = |(_, name, values): &(usize, &'static str, Vec<Option<f64>>)| match values
                .get(place)
                .copied()
                .flatten()
            {
                Some(value) => format!("{name} {}{unit}", trim(value)),
                None => format!("{name} no data"),
            };
            series.iter().map(of).collect::<Vec<_>>().join(", ")
        };
        Self {
            title,
            readings: axis.readings(said),
            from: axis.from,
            step_ms: axis.step_ms,
            top: format!("{}{unit}", trim(top)),
            bars: Vec::new(),
            lines: series.iter().map(line).collect(),
            target: target.map(|(at, word)| (y(at), format!("{word} {}{unit}", trim(at)))),
            legend: series.iter().map(|(class, name, _)| (*class, *name)).collect(),
        }
    }
}

/// The next of 1, 2, 5 times a power of ten.
fn nice(value: f64) -> f64 {
    if !(value > 0.0 && value.is_finite()) {
        return 1.0;
    }
    let power = 10.0_f64.powf(value.log10().floor());
    let steps = [1.0, 2.0, 5.0, 10.0];
    steps.iter().map(|step| step * power).find(|step| *step >= value * 0.999).unwrap_or(value)
}

fn trim(value: f64) -> String {
    let text = format!("{value:.2}");
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

fn round(value: f64) -> f64 {
    (value * 10.0).round() / 10.0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cells_are_added_up_to_few_points() {
        let at: Vec<i64> = (0..400).map(|n| n * 10_000).collect();
        let axis = Axis::of(&at, 10);
        let merged = axis.merge(&vec![1; 400]);
        assert!(axis.at.len() <= POINTS_MAX && merged.len() == axis.at.len());
        assert_eq!(merged.iter().sum::<u64>(), 400);
        assert_eq!((axis.x(0), axis.x(i64::MAX / 4)), (0.0, WIDTH));
        assert_eq!(axis.ticks().len(), 5);
    }

    #[test]
    fn no_time_is_said_twice_below_a_chart() {
        let axis = Axis::of(&[480_000, 500_000, 520_000, 540_000, 560_000, 580_000], 20);

        let said = axis.ticks();

        assert_eq!(
            said,
            [(0.0, "00:08".to_owned()), (50.0, "00:09".to_owned()), (100.0, "00:10".to_owned())]
        );
        assert_eq!(
            said.iter().map(|(x, _)| anchor(x)).collect::<Vec<_>>(),
            ["start", "middle", "end"]
        );
    }

    #[test]
    fn a_line_is_parted_where_nothing_is_known() {
        let axis = Axis::of(&[0, 10_000, 20_000, 30_000], 10);
        let values = vec![Some(1.0), None, Some(2.0), Some(3.0)];
        let chart =
            Chart::lines("x", &axis, &[(0, "x", values)], (1.0, " ms"), Some((50.0, "target")));
        assert_eq!(chart.lines[0].parts.len(), 2);
        assert_eq!(chart.lines[0].parts[0].split(' ').count(), 2, "one value alone is seen");
        assert_eq!(chart.top, "50 ms");
        assert_eq!(
            (chart.readings[0].as_str(), chart.readings[1].as_str()),
            ("00:00:00: x 1 ms", "00:00:10: x no data")
        );
        assert_eq!((nice(0.0), nice(3.0), nice(11.0)), (1.0, 5.0, 20.0));
    }
}
