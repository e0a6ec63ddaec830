//! The comparison as Markdown.

use std::fmt::Write as _;

use super::table::{Comparison, Skipped};
use crate::units::{ms, thousands};

/// Returns the table as a README shows it.
pub fn markdown(report: &Comparison) -> String {
    let date = report.started.split('T').next().unwrap_or_default();
    let mut text = format!(
        "{date}, {}: {}.\n\n\
         | | sent | failed | by kind | longest stall, ms | longest gap, ms | p99.9 in swaps, ms | artifact to \
         traffic, ms (median / longest) |\n|---|---|---|---|---|---|---|---|\n",
        report.machine,
        report.load.text()
    );
    for row in &report.contenders {
        let name = row.name.title();
        let Some(found) = &row.found else {
            let broken = row.broken.as_deref().unwrap_or_default().replace('\n', " ");
            let _ = writeln!(text, "| {name} | could not be run: {broken} | | | | | | |");
            continue;
        };
        let kinds = found.report.failed.iter().filter(|(_, count)| **count > 0);
        let kinds: Vec<String> = kinds
            .map(|(kind, count)| format!("{kind} {}", thousands(*count)))
            .chain(
                found
                    .sessions
                    .map(|_| format!("sessions lost: {}", found.sessions_lost())),
            )
            .chain(found.remark())
            .collect();
        let _ = writeln!(
            text,
            "| {name} | {} | {} | {} | {} | {} | {} | {} |",
            thousands(found.report.sent),
            thousands(found.failed_total),
            kinds.join(", "),
            ms(found.stall_ms),
            ms(found.gap_ms),
            ms(found.p999_in_swaps_ms),
            found.to_traffic()
        );
    }
    let versions: Vec<String> = report
        .contenders
        .iter()
        .filter(|row| !row.version.is_empty())
        .map(|row| row.version.clone())
        .collect();
    let _ = writeln!(text, "\n{}.", versions.join("; "));
    for Skipped { name, reason } in &report.skipped {
        let _ = writeln!(text, "{} was skipped: {reason}.", name.title());
    }
    text
}
