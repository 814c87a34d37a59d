//! G10: one more durable point behind 288, and the oldest one gone.

use crate::Outcome;
use crate::bench::Bench;
use crate::chain::{Guest, POINTS, create, external, ours};
use crate::churn::Churn;
use crate::programs::need;
use crate::report::median;

const CHURN: Churn = Churn::Large;

pub(crate) fn and_expire(bench: &Bench) -> Outcome<()> {
    need(&["qemu-img", "qemu-io", "sync"])?;
    let (r, pairs) = (bench.images.r()?, bench.pairs(5));
    let history = ours(bench, CHURN)?;
    let (store, chain) = (history.path.join("store"), external(bench, CHURN, POINTS, "")?.path);
    let guest = Guest::new(bench, &r, CHURN)?;

    let (mut next, mut above) = (POINTS, POINTS);
    let add = || {
        next += 1;
        Ok(bench.history(&store, &r, CHURN, next)?.0)
    };
    let stack = || {
        above += 1;
        let commands = guest.commands(above)?;
        let text = format!("{}\nsync p{above}.qcow2 .", create(above, ""));
        Ok(bench.meter.script(&text, &[("D", &chain), ("W", &commands)])?.0)
    };
    let costs = bench.in_turn(pairs, add, stack)?;
    let against = "a point behind 288, processes included, against qemu-img create -u, qemu-io";
    bench.report.costs("G10", against, &costs, None, Some(1.0))?;

    let young = bench.fresh("young")?;
    bench.history(&young, &r, CHURN, 0)?;
    let (mut points, mut first) = (next, 0);
    let behind_many = || {
        points += 1;
        bench.history(&store, &r, CHURN, points)
    };
    let behind_few = || {
        first += 1;
        bench.history(&young, &r, CHURN, first)
    };
    let took = bench.in_turn(pairs, behind_many, behind_few)?;
    let took: Vec<_> = took
        .iter()
        .map(|(many, few)| (median(many.1.iter().copied()), median(few.1.iter().copied())))
        .collect();
    bench.report.figures("G10", "ms of a point, ours behind 288 against ours behind 0", &took, Some(1.5))?;

    let mut oldest = 0;
    let merge = || {
        oldest += 1;
        let text = format!(
            "cd \"$D\"; qemu-img commit -q -f qcow2 p{oldest}.qcow2
            qemu-img rebase -u -f qcow2 -b p0.qcow2 -F qcow2 p{}.qcow2; sync p0.qcow2 p{}.qcow2; rm p{oldest}.qcow2",
            oldest + 1,
            oldest + 1
        );
        Ok(bench.meter.script(&text, &[("D", &chain)])?.0)
    };
    let expired = bench.in_turn(pairs, || bench.expire(&store), merge)?;
    let costs: Vec<_> = expired.iter().map(|(ours, peer)| (ours.0, *peer)).collect();
    let written: Vec<_> = expired.iter().map(|(ours, _)| (ours.1, CHURN.payload())).collect();
    bench.report.costs(
        "G10",
        "expiry of the oldest, against qemu-img commit, rebase -u",
        &costs,
        None,
        None,
    )?;
    bench.report.bytes("G10", "written by an expiry, against what a point writes", &written, Some(0.25))
}
