//! Strict checks of constraints: arity and shape of their values.

use super::{CONSTRAINTS_MAX, Door, NAME_CHARS_MAX};
use crate::constraint::{Test, Texts, net};
use crate::context::Field;
use crate::model::{Constraint, Operator};

impl Door {
    pub(super) fn constraints(&mut self, constraints: &[Constraint]) {
        self.count("constraints", constraints.len(), CONSTRAINTS_MAX);
        for (n, constraint) in constraints.iter().enumerate().take(CONSTRAINTS_MAX) {
            self.within(format!("constraints[{n}]"), |door| door.constraint(constraint));
        }
    }

    fn constraint(&mut self, constraint: &Constraint) {
        self.length("field", &constraint.field, 1, NAME_CHARS_MAX);
        self.texts("values", &constraint.values);
        self.field(constraint);
        let found = constraint.values.len();
        match arity(constraint.operator) {
            Arity::None if found > 0 => self.refuse("values", "must be empty"),
            Arity::One if found != 1 => {
                self.refuse("values", format!("must be exactly one; there are {found}"));
            }
            Arity::Some if found == 0 => self.refuse("values", "must be at least one"),
            _ => {
                if let (_, Some(fault)) = Test::compile(constraint, &mut Texts::default()) {
                    self.refuse(fault.part, fault.message);
                }
            }
        }
        if constraint.operator == Operator::InCidr {
            for (n, text) in constraint.values.iter().enumerate() {
                if net(text.trim()).is_none() {
                    let message = format!("`{text}` is not a network such as 10.0.0.0/8");
                    self.refuse(&format!("values[{n}]"), message);
                }
            }
        }
    }

    /// Dates are compared with the time, and the time with nothing but dates and numbers.
    fn field(&mut self, constraint: &Constraint) {
        use Operator as O;
        let is_time = Field::new(&constraint.field).is_current_time();
        let is_date = matches!(constraint.operator, O::DateAfter | O::DateBefore);
        let fits_time = is_date
            || matches!(
                constraint.operator,
                O::NumEq | O::NumGt | O::NumGte | O::NumLt | O::NumLte | O::IsSet
            );
        if is_date && !is_time {
            self.refuse("field", "must be `current_time` with a date");
        } else if is_time && !fits_time {
            self.refuse("operator", "cannot be used with `current_time`");
        }
    }
}

enum Arity {
    None,
    One,
    Some,
}

fn arity(operator: Operator) -> Arity {
    use Operator as O;
    match operator {
        O::IsSet => Arity::None,
        O::In | O::NotIn | O::StrContains | O::StrStartsWith | O::StrEndsWith | O::InCidr => {
            Arity::Some
        }
        _ => Arity::One,
    }
}
