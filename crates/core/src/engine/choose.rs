//! Which point a choice means.

use crate::{
    Consistency, CutId, Error, ErrorKind, MachineId, Point, PointChoice, PointId, Result, group_cuts,
};
use std::collections::BTreeMap;

/// The point of each member that `choice` means. A group goes to one cut that all of its members have sealed, or nowhere.
///
/// Points whose disks are of different instants are never chosen. Pinned points count where no other exists.
///
/// # Errors
/// `NotFound` or `Refused`, naming what there is instead.
pub(crate) fn choose(
    members: &BTreeMap<MachineId, Vec<Point>>,
    choice: PointChoice,
) -> Result<BTreeMap<MachineId, PointId>> {
    if members.len() == 1 {
        let (machine, points) = members.iter().next().expect("one member");
        return Ok([(machine.clone(), one(points, choice)?.id)].into());
    }
    if let PointChoice::Custom(point) = choice {
        let rule = "a point belongs to one machine; a group goes to a cut that all have sealed";
        return Err(Error::invalid("point", format!("Custom({point})"), rule, "choose a latest form"));
    }
    let bootable: BTreeMap<_, Vec<Point>> = members
        .iter()
        .map(|(m, points)| (m.clone(), points.iter().filter(|p| fits(p, choice)).cloned().collect()))
        .collect();
    let cuts = group_cuts(&bootable);
    let cut: &CutId = cuts.last().ok_or_else(|| {
        Error::new(ErrorKind::NotFound, "no cut of the whole group is sealed that fits; a group never falls back to points of its own per machine")
    })?;
    let point = |points: &Vec<Point>| points.iter().find(|p| &p.cut == cut).map(|p| p.id);
    Ok(bootable.iter().filter_map(|(m, points)| Some((m.clone(), point(points)?))).collect())
}

fn fits(point: &Point, choice: PointChoice) -> bool {
    match choice {
        PointChoice::LatestAppConsistent => point.consistency == Consistency::Application,
        PointChoice::LatestProven => point.boots() && point.consistency >= Consistency::Crash,
        PointChoice::Custom(id) => point.id == id,
        PointChoice::Latest | PointChoice::LatestProcessed => point.consistency >= Consistency::Crash,
    }
}

fn one(points: &[Point], choice: PointChoice) -> Result<&Point> {
    let found = points.iter().rev().find(|p| fits(p, choice));
    let listed = || {
        let all: Vec<String> = points
            .iter()
            .rev()
            .take(5)
            .map(|p| format!("{} ({:?}, {})", p.id, p.consistency, p.taken))
            .collect();
        if all.is_empty() {
            "there is no point at all".to_owned()
        } else {
            format!("newest points: {}", all.join(", "))
        }
    };
    let point = found.ok_or_else(|| match choice {
        PointChoice::LatestAppConsistent => {
            Error::new(ErrorKind::NotFound, format!("no application-consistent point; {}", listed()))
        }
        PointChoice::LatestProven => {
            Error::new(ErrorKind::NotFound, format!("no point is proven to boot; {}", listed()))
        }
        PointChoice::Custom(id) => {
            Error::new(ErrorKind::NotFound, format!("point {id} is gone; {}", listed()))
        }
        _ => Error::new(ErrorKind::NotFound, listed()),
    })?;
    if point.consistency == Consistency::PerDisk {
        return Err(Error::new(
            ErrorKind::Refused,
            format!("the disks of point {} are of different instants", point.id),
        ));
    }
    Ok(point)
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::{Generation, Timestamp};

    pub(crate) fn point(id: u64, cut: &str, members: &[&str], taken: u64, consistency: Consistency) -> Point {
        Point {
            id: PointId(id),
            cut: cut.into(),
            members: members.iter().map(|m| MachineId::from(*m)).collect(),
            taken: Timestamp(taken),
            consistency,
            generation: Generation(0),
            pins: vec![],
            locked_until: None,
            verified: true,
            verified_boot: None,
        }
    }

    #[test]
    fn o4_a_group_goes_to_one_cut_or_nowhere() {
        use Consistency::{Application, Crash};
        let both = ["a", "b"];
        let a = vec![
            point(1, "c1", &both, 1, Application),
            point(2, "c2", &both, 2, Crash),
            point(3, "c3", &both, 3, Crash),
        ];
        let b = vec![point(7, "c1", &both, 1, Application), point(8, "c3", &both, 3, Crash)];
        let members: BTreeMap<MachineId, Vec<Point>> = [("a".into(), a.clone()), ("b".into(), b)].into();
        let latest = choose(&members, PointChoice::Latest).expect("c3 is whole");
        assert_eq!(latest.into_values().collect::<Vec<_>>(), [PointId(3), PointId(8)]);
        let app = choose(&members, PointChoice::LatestAppConsistent).expect("c1 is whole");
        assert_eq!(app.into_values().collect::<Vec<_>>(), [PointId(1), PointId(7)]);
        let apart: BTreeMap<MachineId, Vec<Point>> = [("a".into(), a), ("b".into(), vec![])].into();
        assert!(choose(&apart, PointChoice::Latest).is_err());
        assert!(choose(&members, PointChoice::Custom(PointId(1))).is_err());
    }

    #[test]
    fn a_choice_that_is_not_there_names_what_is() {
        let members =
            BTreeMap::from([(MachineId::from("a"), vec![point(4, "c", &["a"], 9, Consistency::Crash)])]);
        let error = choose(&members, PointChoice::LatestAppConsistent).expect_err("none");
        assert!(error.message().contains("newest points: 4"), "{error}");
        let spread =
            BTreeMap::from([(MachineId::from("a"), vec![point(4, "c", &["a"], 9, Consistency::PerDisk)])]);
        assert!(choose(&spread, PointChoice::Latest).is_err());
        assert_eq!(
            choose(&spread, PointChoice::Custom(PointId(4))).expect_err("spread").kind(),
            ErrorKind::Refused
        );
    }
}
