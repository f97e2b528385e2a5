//! Unleash's own decisions, computed from its document: what a drift report compares with.

use std::net::IpAddr;

use serde_json::Value;

use super::document::{Constraint, Feature, Features, Strategy, Variant};
use crate::drift::{Person, Regexes, Source as Asked};
use crate::hash::murmur3;

/// The seed of variants.
const VARIANT_SEED: u32 = 86_028_157;

/// A document that can be asked.
pub struct Source {
    features: Features,
    regexes: Regexes,
}

impl Source {
    /// Takes a document that `import` has read.
    pub fn new(text: &str) -> Result<Self, String> {
        Ok(Self { features: super::read::features(text)?, regexes: Regexes::default() })
    }

    fn feature(&self, name: &str) -> Option<Feature> {
        self.features.features.iter().find(|feature| feature.name == name).cloned()
    }

    /// Whether it is on, and the strategy that let in.
    fn is_on(&mut self, feature: &Feature, who: &Person, depth: usize) -> (bool, Option<Strategy>) {
        let met = feature.dependencies.iter().all(|needs| {
            let Some(parent) = self.feature(&needs.feature).filter(|_| depth < 4) else {
                return false;
            };
            let (is_on, strategy) = self.is_on(&parent, who, depth + 1);
            let variant = variant(&parent, strategy.as_ref(), who);
            is_on == needs.enabled
                && (needs.variants.is_empty()
                    || variant.is_some_and(|found| needs.variants.contains(&found.name)))
        });
        if !met || !feature.enabled {
            return (false, None);
        }
        let strategies: Vec<&Strategy> =
            feature.strategies.iter().filter(|strategy| !strategy.disabled).collect();
        if strategies.is_empty() {
            return (true, None);
        }
        for strategy in strategies {
            if self.admits(feature, strategy, who) {
                return (true, Some(strategy.clone()));
            }
        }
        (false, None)
    }

    fn admits(&mut self, feature: &Feature, strategy: &Strategy, who: &Person) -> bool {
        let mut constraints = strategy.constraints.clone();
        for id in &strategy.segments {
            match self.features.segments.iter().find(|segment| segment.id == *id) {
                Some(segment) => constraints.extend(segment.constraints.iter().cloned()),
                None => return false,
            }
        }
        if !constraints.iter().all(|one| self.holds(one, who)) {
            return false;
        }
        let listed = |name: &str, found: Option<String>| {
            let list = strategy.parameter(name).unwrap_or_default();
            found.is_some_and(|found| list.split(',').any(|one| one.trim() == found))
        };
        let share = |name: &str, stickiness: &str| {
            let percent = strategy.parameter(name).and_then(|text| text.trim().parse::<f64>().ok());
            let group = strategy.parameter("groupId").filter(|group| !group.is_empty());
            let group = group.unwrap_or_else(|| feature.name.clone());
            let point = unit(stickiness, who).map(|id| norm(&group, &id, 100, 0));
            point.is_some_and(|point| f64::from(point as u32) <= percent.unwrap_or(0.0))
        };
        match strategy.name.as_str() {
            "default" => true,
            "userWithId" => listed("userIds", text(who, "userId")),
            "applicationHostname" => listed("hostNames", text(who, "hostname")),
            "remoteAddress" => {
                let list = strategy.parameter("IPs").unwrap_or_default();
                let found = text(who, "remoteAddress");
                found.is_some_and(|found| list.split(',').any(|net| is_within(net, &found)))
            }
            "flexibleRollout" => {
                share("rollout", &strategy.parameter("stickiness").unwrap_or_default())
            }
            "gradualRolloutUserId" => share("percentage", "userId"),
            "gradualRolloutSessionId" => share("percentage", "sessionId"),
            _ => false,
        }
    }

    fn holds(&mut self, one: &Constraint, who: &Person) -> bool {
        let found = text(who, &one.context_name);
        let lower = |text: &str| {
            if one.case_insensitive { text.to_lowercase() } else { text.to_owned() }
        };
        let value = one.value.clone().or_else(|| one.values.first().cloned()).unwrap_or_default();
        let value = value.trim();
        let any = |test: &dyn Fn(&str, &str) -> bool| {
            found.as_deref().is_some_and(|found| {
                let values = one.values.iter().map(|value| value.trim());
                values
                    .filter(|value| !value.is_empty())
                    .any(|value| test(&lower(found), &lower(value)))
            })
        };
        let number = |test: fn(f64, f64) -> bool| {
            let pair = found
                .as_deref()
                .and_then(|found| found.trim().parse().ok())
                .zip(value.parse().ok());
            pair.is_some_and(|(a, b)| test(a, b))
        };
        let version = |test: fn(std::cmp::Ordering) -> bool| {
            let found = found.as_deref().and_then(|found| semver::Version::parse(found).ok());
            let pair = found.zip(semver::Version::parse(value).ok());
            pair.is_some_and(|(a, b)| test(a.cmp_precedence(&b)))
        };
        let date = |test: fn(i64, i64) -> bool| {
            let at = value.parse::<jiff::Timestamp>().ok();
            at.is_some_and(|at| test(who.now_ms, at.as_millisecond()))
        };
        let held = match one.operator.as_str() {
            "IN" => any(&|a, b| a == b),
            "NOT_IN" => !any(&|a, b| a == b),
            "STR_CONTAINS" => any(&|a, b| a.contains(b)),
            "STR_STARTS_WITH" => any(&|a, b| a.starts_with(b)),
            "STR_ENDS_WITH" => any(&|a, b| a.ends_with(b)),
            "IN_CIDR" => any(&|a, b| is_within(b, a)),
            "NUM_EQ" => number(|a, b| (a - b).abs() == 0.0),
            "NUM_GT" => number(|a, b| a > b),
            "NUM_GTE" => number(|a, b| a >= b),
            "NUM_LT" => number(|a, b| a < b),
            "NUM_LTE" => number(|a, b| a <= b),
            "SEMVER_EQ" => version(std::cmp::Ordering::is_eq),
            "SEMVER_GT" => version(std::cmp::Ordering::is_gt),
            "SEMVER_GTE" => version(std::cmp::Ordering::is_ge),
            "SEMVER_LT" => version(std::cmp::Ordering::is_lt),
            "SEMVER_LTE" => version(std::cmp::Ordering::is_le),
            "DATE_AFTER" => date(|now, at| now > at),
            "DATE_BEFORE" => date(|now, at| now < at),
            "REGEX" => {
                let flags = if one.case_insensitive { "(?i)" } else { "" };
                let pattern = format!("{flags}{value}");
                found.as_deref().is_some_and(|found| self.regexes.find(&pattern, found))
            }
            _ => return false,
        };
        held != one.inverted
    }
}

impl Asked for Source {
    fn decide(&mut self, key: &str, who: &Person) -> Option<Value> {
        let feature = self.feature(key)?;
        let (is_on, strategy) = self.is_on(&feature, who, 0);
        if !is_on {
            return None;
        }
        let Some(variant) = variant(&feature, strategy.as_ref(), who) else {
            return Some(Value::Null);
        };
        let Some(payload) = &variant.payload else { return Some(Value::Null) };
        let text = || Value::String(payload.value.clone());
        Some(match payload.kind.as_str() {
            "json" | "number" => serde_json::from_str(&payload.value).unwrap_or_else(|_| text()),
            _ => text(),
        })
    }

    /// A draw of its own for each call cannot be compared.
    fn is_repeatable(&self, key: &str) -> bool {
        let draws = |stickiness: Option<&str>| stickiness == Some("random");
        let drawn =
            |variants: &[Variant]| variants.iter().any(|one| draws(one.stickiness.as_deref()));
        self.feature(key).is_none_or(|feature| {
            !drawn(&feature.variants)
                && !feature.strategies.iter().any(|strategy| {
                    strategy.name == "gradualRolloutRandom"
                        || draws(strategy.parameter("stickiness").as_deref())
                        || drawn(&strategy.variants)
                })
        })
    }
}

fn variant(feature: &Feature, strategy: Option<&Strategy>, who: &Person) -> Option<Variant> {
    let own = strategy.filter(|strategy| !strategy.variants.is_empty());
    let (list, group, fallback) = match own {
        Some(strategy) => {
            let group = strategy.parameter("groupId").filter(|group| !group.is_empty());
            let stickiness = strategy.parameter("stickiness").unwrap_or_default();
            (&strategy.variants, group.unwrap_or_else(|| feature.name.clone()), stickiness)
        }
        None => (&feature.variants, feature.name.clone(), "default".to_owned()),
    };
    let forced = list.iter().find(|variant| {
        variant.overrides.iter().any(|one| {
            text(who, &one.context_name).is_some_and(|found| one.values.contains(&found))
        })
    });
    if let Some(variant) = forced {
        return Some(variant.clone());
    }
    let total: u32 = list.iter().map(|variant| variant.weight.max(0) as u32).sum();
    let stickiness = list.first()?.stickiness.clone().filter(|text| !text.is_empty());
    let id = unit(stickiness.as_deref().unwrap_or(&fallback), who)?;
    let point = norm(&group, &id, u64::from(total), VARIANT_SEED);
    let mut sum = 0;
    list.iter()
        .find(|variant| {
            sum += variant.weight.max(0).cast_unsigned();
            variant.weight > 0 && sum >= point
        })
        .cloned()
}

/// 1 to `parts`.
fn norm(group: &str, id: &str, parts: u64, seed: u32) -> u64 {
    let hash = u64::from(murmur3(format!("{group}:{id}").as_bytes(), seed));
    hash.checked_rem(parts).map_or(0, |rest| rest + 1)
}

fn unit(stickiness: &str, who: &Person) -> Option<String> {
    match stickiness {
        "" | "default" => text(who, "userId").or_else(|| text(who, "sessionId")),
        name => text(who, name),
    }
}

fn text(who: &Person, name: &str) -> Option<String> {
    let name = match name {
        "userId" => "user_id",
        "sessionId" => "session_id",
        "remoteAddress" => "remote_address",
        "appName" => "app_name",
        "appVersion" => "app_version",
        other => other,
    };
    match who.get(name) {
        Value::String(text) => Some(text).filter(|text| !text.is_empty()),
        Value::Null | Value::Array(_) | Value::Object(_) => None,
        other => Some(other.to_string()),
    }
}

fn is_within(net: &str, found: &str) -> bool {
    let net = net.trim();
    let Ok(found) = found.trim().parse::<IpAddr>() else { return false };
    match net.parse::<ipnet::IpNet>() {
        Ok(net) => net.contains(&found),
        Err(_) => net.parse::<IpAddr>().is_ok_and(|one| one == found),
    }
}
