//! Other systems' conditions: as trees while they are read, as lists of constraints for rules.

use switchback_core::model::{Constraint, Formula, Operator, Percent, Stickiness};

/// Ways to hold that one condition may have; a rule is made of each.
const TERMS_MAX: usize = 100;

/// A condition.
#[derive(Clone, Debug)]
pub enum Condition {
    /// Always holds.
    Always,
    /// Never holds.
    Never,
    /// A test on a field.
    Test(Constraint),
    /// The unit's bucket is in a range.
    Share(Share),
    /// A segment that is imported under this key, and what it says.
    Segment(String, Box<Condition>),
    /// The other way round.
    Not(Box<Condition>),
    /// All hold.
    All(Vec<Condition>),
    /// One holds.
    Any(Vec<Condition>),
}

/// A range of a system's buckets, in thousandths of a percent.
#[derive(Clone, Debug, PartialEq)]
pub struct Share {
    /// How a unit becomes a bucket.
    pub formula: Formula,
    /// What it is hashed with.
    pub salt: String,
    /// The field that is hashed.
    pub unit: Stickiness,
    /// The first bucket.
    pub start: u32,
    /// The first one after it.
    pub end: u32,
}

/// One way for a condition to hold: everything in it does.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Term {
    /// Tests.
    pub tests: Vec<Constraint>,
    /// Keys of segments.
    pub segments: Vec<String>,
    /// A range of buckets.
    pub share: Option<Share>,
}

/// A test on a field.
pub fn test<T: Into<String>>(
    field: &str,
    operator: Operator,
    values: impl IntoIterator<Item = T>,
) -> Condition {
    Condition::Test(Constraint {
        field: field.to_owned(),
        operator,
        values: values.into_iter().map(Into::into).collect(),
        inverted: false,
        case_insensitive: false,
    })
}

/// The field has a value.
pub fn is_set(field: &str) -> Condition {
    test(field, Operator::IsSet, [""; 0])
}

/// Turns a condition round.
pub fn not(condition: Condition) -> Condition {
    Condition::Not(Box::new(condition))
}

/// A text that our operators compare as it is: they trim, and take no empty text.
pub fn plain(text: &str) -> Result<String, String> {
    if text.trim().is_empty() || text.trim() != text {
        return Err(format!("compares with the text `{text}`, which is blank at an end"));
    }
    Ok(text.to_owned())
}

impl Share {
    /// Everybody who has a unit.
    pub fn is_everybody(&self) -> bool {
        self.start == 0 && self.end >= Percent::ALL.thousandths()
    }

    /// Both ranges at once; `None` when they are of different hashes.
    pub fn and(&self, other: &Self) -> Option<Self> {
        let same =
            (self.formula, &self.salt, &self.unit) == (other.formula, &other.salt, &other.unit);
        let start = self.start.max(other.start);
        let end = self.end.min(other.end).max(start);
        same.then(|| Self { start, end, ..self.clone() })
    }
}

/// Both ranges; an error when a rule cannot hold them.
pub fn both(one: Option<&Share>, other: Option<&Share>) -> Result<Option<Share>, String> {
    match (one, other) {
        (None, None) => Ok(None),
        (Some(share), None) | (None, Some(share)) => Ok(Some(share.clone())),
        (Some(one), Some(other)) => match one.and(other) {
            Some(share) => Ok(Some(share)),
            None => Err("asks for two different hashes of the user at once".to_owned()),
        },
    }
}

impl Condition {
    /// Every way to hold, in order; none at all when it never does.
    pub fn terms(&self) -> Result<Vec<Term>, String> {
        let mut terms = self.expand(false)?;
        let mut distinct = Vec::with_capacity(terms.len());
        for term in terms.drain(..) {
            if term == Term::default() {
                return Ok(vec![term]);
            }
            if !distinct.contains(&term) {
                distinct.push(term);
            }
        }
        Ok(distinct)
    }

    fn expand(&self, negated: bool) -> Result<Vec<Term>, String> {
        match (self, negated) {
            (Self::Always, false) | (Self::Never, true) => Ok(vec![Term::default()]),
            (Self::Always, true) | (Self::Never, false) => Ok(Vec::new()),
            (Self::Test(constraint), _) => {
                let tests = vec![turned(constraint, negated)];
                Ok(vec![Term { tests, ..Term::default() }])
            }
            (Self::Share(share), false) => {
                Ok(vec![Term { share: Some(share.clone()), ..Term::default() }])
            }
            (Self::Share(share), true) => {
                let all = Percent::ALL.thousandths();
                let ranges = [(0, share.start), (share.end, all)];
                let ranges = ranges.into_iter().filter(|(start, end)| start < end);
                let term = |(start, end)| Term {
                    share: Some(Share { start, end, ..share.clone() }),
                    ..Term::default()
                };
                Ok(ranges.map(term).collect())
            }
            (Self::Segment(key, _), false) => {
                Ok(vec![Term { segments: vec![key.clone()], ..Term::default() }])
            }
            (Self::Segment(_, inner), true) => inner.expand(true),
            (Self::Not(inner), _) => inner.expand(!negated),
            (Self::All(list), false) | (Self::Any(list), true) => product(list, negated),
            (Self::Any(list), false) | (Self::All(list), true) => {
                let mut terms = Vec::new();
                for one in list {
                    terms.extend(one.expand(negated)?);
                    check(terms.len())?;
                }
                Ok(terms)
            }
        }
    }
}

fn product(list: &[Condition], negated: bool) -> Result<Vec<Term>, String> {
    let mut terms = vec![Term::default()];
    for one in list {
        let right = one.expand(negated)?;
        check(terms.len().saturating_mul(right.len()))?;
        let mut next = Vec::with_capacity(terms.len() * right.len());
        for left in &terms {
            for right in &right {
                next.push(joined(left, right)?);
            }
        }
        terms = next;
    }
    terms.retain(|term| {
        term.share.as_ref().is_none_or(|share| share.start < share.end) && !contradicts(term)
    });
    Ok(terms)
}

/// Asks for a test and for its opposite.
fn contradicts(term: &Term) -> bool {
    let opposites = term.tests.iter().map(|test| turned(test, true));
    opposites.into_iter().any(|opposite| term.tests.contains(&opposite))
}

fn joined(left: &Term, right: &Term) -> Result<Term, String> {
    let mut term = left.clone();
    term.share = both(left.share.as_ref(), right.share.as_ref())?;
    for test in &right.tests {
        if !term.tests.contains(test) {
            term.tests.push(test.clone());
        }
    }
    for segment in &right.segments {
        if !term.segments.contains(segment) {
            term.segments.push(segment.clone());
        }
    }
    Ok(term)
}

fn check(terms: usize) -> Result<(), String> {
    if terms > TERMS_MAX {
        return Err(format!("its conditions make over {TERMS_MAX} rules"));
    }
    Ok(())
}

/// `IN` has a name for its opposite.
fn turned(constraint: &Constraint, negated: bool) -> Constraint {
    let mut turned = constraint.clone();
    if negated {
        turned.inverted = !turned.inverted;
    }
    let opposite = match turned.operator {
        Operator::In => Operator::NotIn,
        Operator::NotIn => Operator::In,
        _ => return turned,
    };
    if turned.inverted {
        turned.operator = opposite;
        turned.inverted = false;
    }
    turned
}

#[cfg(test)]
mod tests {
    use super::*;

    fn a(value: &str) -> Condition {
        test("a", Operator::In, [value])
    }

    #[test]
    fn a_tree_becomes_rules_and_its_opposite_too() {
        let tree = Condition::All(vec![Condition::Any(vec![a("1"), a("2")]), is_set("b")]);

        let terms = tree.terms().unwrap();
        let opposite = not(tree).terms().unwrap();

        assert_eq!(terms.len(), 2);
        assert!(terms.iter().all(|term| term.tests.len() == 2));
        assert_eq!(opposite.len(), 2);
        assert_eq!(opposite[0].tests.len(), 2);
        assert_eq!(opposite[0].tests[0].operator, Operator::NotIn);
        assert!(opposite[1].tests[0].inverted);
    }

    #[test]
    fn what_would_explode_is_refused() {
        let pair = || Condition::Any(vec![a("1"), a("2")]);
        let tree = Condition::All((0..64).map(|_| pair()).collect());

        assert!(tree.terms().unwrap_err().contains("rules"));
    }
}
