//! A line without axes, for a tile: `viewBox="0 -4 960 104"`.

use super::charts::WIDTH;

/// Height of its field.
const HEIGHT: f64 = 96.0;

/// Points as stairs, each as wide as the others; a point that is not known parts the line. `top` is the highest that is drawn.
pub fn polylines(points: &[Option<f64>], top: f64) -> Vec<String> {
    let width = WIDTH / points.len().max(1) as f64;
    let mut parts: Vec<Vec<String>> = vec![Vec::new()];
    for (place, point) in points.iter().enumerate() {
        let Some(value) = point else {
            parts.push(Vec::new());
            continue;
        };
        let share = (value / top.max(f64::MIN_POSITIVE)).clamp(0.0, 1.0);
        let (x, y) = (place as f64 * width, (1.0 - share) * HEIGHT);
        if let Some(part) = parts.last_mut() {
            part.push(format!("{x:.1},{y:.1}"));
            part.push(format!("{:.1},{y:.1}", x + width));
        }
    }
    parts.into_iter().filter(|part| !part.is_empty()).map(|part| part.join(" ")).collect()
}
