//! The operation word of `FUTEX_WAKE_OP` (futex(2)): what is done to the second word, and what it is compared with.

/// What happens to the word: its new value is `operation(old, argument)`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Operation {
    /// Set.
    Set,
    /// Add.
    Add,
    /// Or.
    Or,
    /// And with the complement.
    AndNot,
    /// Exclusive or.
    Xor,
}

/// How the old value is compared with the comparison's argument, as signed numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Comparison {
    /// `==`
    Equal,
    /// `!=`
    NotEqual,
    /// `<`
    Less,
    /// `<=`
    LessOrEqual,
    /// `>`
    Greater,
    /// `>=`
    GreaterOrEqual,
}

/// A decoded operation word.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct WakeOp {
    operation: Operation,
    argument: i32,
    comparison: Comparison,
    compare_with: i32,
}

fn sign_extend_12(bits: u32) -> i32 {
    ((bits << 20) as i32) >> 20
}

impl WakeOp {
    /// Decodes; `None` for an unknown operation or comparison, which is `ENOSYS`.
    pub fn decode(word: u32) -> Option<Self> {
        let mut argument = sign_extend_12(word >> 12 & 0xfff);
        if word >> 28 & 8 != 0 {
            // Linux masks a shift out of range instead of refusing it (futex_atomic_op_inuser).
            argument = 1i32.wrapping_shl(argument as u32 & 31);
        }
        Some(Self {
            operation: match word >> 28 & 7 {
                0 => Operation::Set,
                1 => Operation::Add,
                2 => Operation::Or,
                3 => Operation::AndNot,
                4 => Operation::Xor,
                _ => return None,
            },
            argument,
            comparison: match word >> 24 & 15 {
                0 => Comparison::Equal,
                1 => Comparison::NotEqual,
                2 => Comparison::Less,
                3 => Comparison::LessOrEqual,
                4 => Comparison::Greater,
                5 => Comparison::GreaterOrEqual,
                _ => return None,
            },
            compare_with: sign_extend_12(word & 0xfff),
        })
    }

    /// The word's new value.
    pub fn apply(&self, old: u32) -> u32 {
        let argument = self.argument as u32;
        match self.operation {
            Operation::Set => argument,
            Operation::Add => old.wrapping_add(argument),
            Operation::Or => old | argument,
            Operation::AndNot => old & !argument,
            Operation::Xor => old ^ argument,
        }
    }

    /// Whether the old value asks for the second wake-up.
    pub fn matches(&self, old: u32) -> bool {
        let (old, with) = (old as i32, self.compare_with);
        match self.comparison {
            Comparison::Equal => old == with,
            Comparison::NotEqual => old != with,
            Comparison::Less => old < with,
            Comparison::LessOrEqual => old <= with,
            Comparison::Greater => old > with,
            Comparison::GreaterOrEqual => old >= with,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// futex(2)'s macro.
    fn encode(op: u32, argument: u32, cmp: u32, with: u32) -> u32 {
        (op & 0xf) << 28 | (cmp & 0xf) << 24 | (argument & 0xfff) << 12 | with & 0xfff
    }

    #[test]
    fn every_operation_and_comparison() {
        let result = |op, argument, old| WakeOp::decode(encode(op, argument, 0, 0)).unwrap().apply(old);
        assert_eq!(result(0, 5, 9), 5);
        assert_eq!(result(1, 0xfff, 9), 8);
        assert_eq!(result(2, 6, 9), 15);
        assert_eq!(result(3, 1, 9), 8);
        assert_eq!(result(4, 1, 9), 8);
        assert_eq!(result(8 | 2, 4, 1), 17);
        assert_eq!(result(8, 33, 0), 2);
        let holds = |cmp, old| WakeOp::decode(encode(0, 0, cmp, 0xfff)).unwrap().matches(old);
        for (cmp, minus_two, minus_one, one) in [
            (0, false, true, false),
            (1, true, false, true),
            (2, true, false, false),
            (3, true, true, false),
            (4, false, false, true),
            (5, false, true, true),
        ] {
            assert_eq!(
                (holds(cmp, -2i32 as u32), holds(cmp, u32::MAX), holds(cmp, 1)),
                (minus_two, minus_one, one),
                "{cmp}"
            );
        }
        assert_eq!(WakeOp::decode(encode(5, 0, 0, 0)), None);
        assert_eq!(WakeOp::decode(encode(0, 0, 6, 0)), None);
    }

    /// glibc's pthread_cond_signal of old used this word: set to 0, and wake if it was more than 1.
    #[test]
    fn the_classic_word() {
        let op = WakeOp::decode(4 << 24 | 1).unwrap();
        assert_eq!((op.apply(2), op.matches(2), op.matches(1)), (0, true, false));
    }
}
