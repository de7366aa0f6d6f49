//! Statistics over the rounds: medians, spreads, and the ratios that have targets. Does not format text.

use crate::contender::Contender;
use crate::measure::Cell;

/// A contender's rounds.
#[derive(Debug)]
pub struct Row {
    /// The contender.
    pub contender: Contender,
    /// The results, one for each round.
    pub cells: Vec<Cell>,
}

/// The median and the extremes of some values.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Spread {
    /// The median.
    pub median: f64,
    /// The smallest value.
    pub least: f64,
    /// The largest value.
    pub most: f64,
}

/// A comparison of two contenders.
#[derive(Debug)]
pub struct Ratio {
    /// A description of the comparison.
    pub what: &'static str,
    /// The ratio of the medians. The extremes are those of the ratios in single rounds.
    pub ratio: Spread,
    /// The target of the ratio.
    pub target: Target,
}

/// The target of a ratio.
#[derive(Clone, Copy, Debug)]
pub enum Target {
    /// The ratio must be at least this.
    AtLeast(f64),
    /// The ratio must be at most this.
    AtMost(f64),
}

impl Target {
    /// Whether a ratio meets the target.
    pub fn is_met_by(self, ratio: f64) -> bool {
        match self {
            Self::AtLeast(least) => ratio >= least,
            Self::AtMost(most) => ratio <= most,
        }
    }
}

impl Row {
    /// Creates the row of a contender that has had no round.
    pub fn new(contender: Contender) -> Self {
        Self {
            contender,
            cells: Vec::new(),
        }
    }

    /// Returns the spread of a value over all rounds.
    pub fn spread(&self, figure: impl Fn(&Cell) -> f64) -> Spread {
        spread(self.cells.iter().map(figure).collect())
    }
}

/// Calculates the median and the extremes. There must be at least one value.
pub fn spread(mut figures: Vec<f64>) -> Spread {
    figures.sort_unstable_by(f64::total_cmp);
    let middle = figures.len() / 2;
    let median = if figures.len() % 2 == 1 {
        figures[middle]
    } else {
        f64::midpoint(figures[middle - 1], figures[middle])
    };
    Spread {
        median,
        least: figures[0],
        most: figures[figures.len() - 1],
    }
}

/// Selects a value of a cell.
type Figure = fn(&Cell) -> f64;

/// The targets, in the order of their importance: description, first contender, second contender, compared value, target.
const TARGETS: [(&str, &str, &str, Figure, Target); 8] = {
    const RATE: Figure = |cell| cell.rate;
    const P99: Figure = |cell| cell.p99 as f64;
    use Target::{AtLeast, AtMost};
    [
        (
            "counter on MySQL / Express on MySQL",
            "cloakroom_mysql",
            "express_mysql",
            RATE,
            AtLeast(15.0),
        ),
        (
            "counter on MySQL / axum on MySQL",
            "cloakroom_mysql",
            "axum_mysql",
            RATE,
            AtLeast(4.0),
        ),
        (
            "p99 on MySQL / Express's",
            "cloakroom_mysql",
            "express_mysql",
            P99,
            AtMost(1.0),
        ),
        (
            "p99 on MySQL / axum's",
            "cloakroom_mysql",
            "axum_mysql",
            P99,
            AtMost(1.0),
        ),
        (
            "counter on MySQL / our own in memory",
            "cloakroom_mysql",
            "cloakroom_memory",
            RATE,
            AtLeast(0.5),
        ),
        (
            "counter on SQLite / our own in memory",
            "cloakroom_sqlite",
            "cloakroom_memory",
            RATE,
            AtLeast(0.6),
        ),
        (
            "counter in memory / axum in memory, which runs no sandbox",
            "cloakroom_memory",
            "axum_memory",
            RATE,
            AtLeast(0.4),
        ),
        (
            "hello / `wasmtime serve` with the same component",
            "cloakroom_hello",
            "wasmtime_hello",
            RATE,
            AtLeast(2.5),
        ),
    ]
};

/// Returns the ratios of the contenders that were measured.
pub fn ratios(rows: &[Row]) -> Vec<Ratio> {
    let row = |id| rows.iter().find(|row| row.contender.id == id);
    let known = TARGETS
        .into_iter()
        .filter_map(|(what, ours, theirs, figure, target)| {
            let ratio = ratio(row(ours)?, row(theirs)?, figure);
            Some(Ratio {
                what,
                ratio,
                target,
            })
        });
    known.collect()
}

fn ratio(ours: &Row, theirs: &Row, figure: Figure) -> Spread {
    ratio_of(
        &figures(&ours.cells, figure),
        &figures(&theirs.cells, figure),
    )
}

/// Returns the value of each round.
pub fn figures<T>(rounds: &[T], figure: impl Fn(&T) -> f64) -> Vec<f64> {
    rounds.iter().map(figure).collect()
}

/// Returns the ratio of the medians of two values that were measured in alternating turns. The extremes are those of the ratios
/// in single rounds.
pub fn ratio_of(ours: &[f64], theirs: &[f64]) -> Spread {
    let rounds = ours.iter().zip(theirs);
    let of_rounds = spread(rounds.map(|(a, b)| a / b).collect());
    Spread {
        median: spread(ours.to_vec()).median / spread(theirs.to_vec()).median,
        ..of_rounds
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_does_not_depend_on_the_order_of_the_values() {
        let odd = spread(vec![5.0, 1.0, 3.0]);
        assert_eq!((odd.least, odd.median, odd.most), (1.0, 3.0, 5.0));
        assert_eq!(spread(vec![4.0, 1.0, 2.0, 9.0]).median, 3.0);
    }

    #[test]
    fn a_ratio_is_that_of_the_medians_and_its_range_that_of_the_rounds() {
        let ratio = ratio_of(&[10.0, 30.0, 20.0], &[10.0, 10.0, 40.0]);
        assert_eq!((ratio.least, ratio.median, ratio.most), (0.5, 2.0, 3.0));
    }

    #[test]
    fn every_target_names_existing_contenders() {
        for (what, ours, theirs, ..) in TARGETS {
            assert!(crate::contender::find(ours).is_ok(), "{what}");
            assert!(crate::contender::find(theirs).is_ok(), "{what}");
        }
    }
}
