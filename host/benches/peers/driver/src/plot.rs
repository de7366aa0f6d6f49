//! The rates as a bar chart in SVG. Its colors follow the reader's light or dark color scheme, and it needs no embedded font.

use std::fmt::Write as _;

use crate::contender::Program;
use crate::machine::Setting;
use crate::report;
use crate::summary::Row;

const WIDTH: f64 = 900.0;
const MARGIN: f64 = 24.0;
/// The left end of the bars, to the right of the labels.
const BARS_FROM: f64 = 390.0;
/// The room to the right of the longest bar, for its number.
const FIGURE_WIDTH: f64 = 64.0;
const BAR_HEIGHT: f64 = 16.0;
const ROW_HEIGHT: f64 = 26.0;
const GROUP_HEIGHT: f64 = 36.0;
const TITLE_HEIGHT: f64 = 72.0;

const STYLE: &str = "\
.page{fill:#ffffff}.title{fill:#1f2328;font-weight:600;font-size:16px}.text{fill:#1f2328}.faint{fill:#59636e}\
.peer{fill:#9aa4af}.ours{fill:#0969da}.spread{stroke:#1f2328;stroke-width:1.2;fill:none}\
text{font-family:system-ui,-apple-system,\"Segoe UI\",\"Helvetica Neue\",Arial,sans-serif;font-size:13px}\
@media(prefers-color-scheme:dark){.page{fill:#0d1117}.title,.text{fill:#e6edf3}.faint{fill:#9198a1}\
.peer{fill:#656d76}.ours{fill:#4493f8}.spread{stroke:#e6edf3}}";

/// Draws the plot.
pub fn draw(setting: &Setting, rows: &[Row]) -> String {
    let most = rows.iter().map(|row| row.spread(|cell| cell.rate).most);
    let most = most.fold(1.0, f64::max);
    let scale = (WIDTH - MARGIN - FIGURE_WIDTH - BARS_FROM) / most;
    let mut body = String::new();
    let mut y = TITLE_HEIGHT;
    let mut last_kind = "";
    for row in rows {
        let kind = report::kind(row.contender.sessions);
        if kind != last_kind {
            let baseline = y + GROUP_HEIGHT - 12.0;
            text(&mut body, MARGIN, baseline, "faint", kind);
            y += GROUP_HEIGHT;
            last_kind = kind;
        }
        bar(&mut body, row, y, scale);
        y += ROW_HEIGHT;
    }
    let height = y + MARGIN;
    let mut head = String::new();
    text(
        &mut head,
        MARGIN,
        34.0,
        "title",
        "Requests per second, Cloakroom beside its peers",
    );
    let caption = format!(
        "Medians of {} rounds, lines from the slowest to the fastest. {} shared processors, {}",
        setting.rounds, setting.n_processors, setting.date
    );
    text(&mut head, MARGIN, 56.0, "faint", &caption);
    format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {height}\" width=\"{WIDTH}\" height=\"{height}\" role=\"img\">\n\
         <title>Requests per second, Cloakroom beside its peers</title>\n<style>{STYLE}</style>\n\
         <rect class=\"page\" width=\"{WIDTH}\" height=\"{height}\" rx=\"8\"/>\n{head}{body}</svg>\n"
    )
}

fn bar(svg: &mut String, row: &Row, top: f64, scale: f64) {
    let rate = row.spread(|cell| cell.rate);
    let class = match row.contender.program {
        Program::Cloakroom => "ours",
        Program::Express | Program::Axum | Program::Wasmtime => "peer",
    };
    let baseline = top + BAR_HEIGHT - 4.0;
    text(svg, MARGIN + 12.0, baseline, "text", row.contender.label);
    let width = (rate.median * scale).max(1.0);
    let _ = writeln!(
        svg,
        "<rect class=\"{class}\" x=\"{BARS_FROM}\" y=\"{top}\" width=\"{width:.1}\" height=\"{BAR_HEIGHT}\"/>"
    );
    let (least, most) = (
        BARS_FROM + rate.least * scale,
        BARS_FROM + rate.most * scale,
    );
    let middle = top + BAR_HEIGHT / 2.0;
    let (above, below) = (middle - 3.0, middle + 3.0);
    let _ = writeln!(
        svg,
        "<path class=\"spread\" d=\"M{least:.1} {middle}H{most:.1}M{least:.1} {above}V{below}M{most:.1} {above}V{below}\"/>"
    );
    let figure = report::thousands(rate.median);
    text(
        svg,
        most.max(BARS_FROM + width) + 8.0,
        baseline,
        "text",
        &figure,
    );
}

/// Appends a text element. The texts are the benchmark's own, so nothing in them needs escaping.
fn text(svg: &mut String, x: f64, y: f64, class: &str, words: &str) {
    let _ = writeln!(
        svg,
        "<text class=\"{class}\" x=\"{x:.1}\" y=\"{y:.1}\">{words}</text>"
    );
}
