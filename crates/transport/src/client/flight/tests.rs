use super::*;
use crate::message::Openable;
use site_recovery::{MachineId, PointId};

const GRANT: Grant = Grant { credit: 1 << 20, requests: 1 };

/// Of what goes out: the handles that are opened, and those that are closed.
fn out(flight: &Flight) -> (Vec<u64>, Vec<u64>) {
    let (mut opened, mut closed) = (vec![], vec![]);
    while let Next::Send { kind, id, parts } = flight.next(GRANT) {
        match kind {
            Kind::Close => closed.push(id),
            Kind::Call => match serde_json::from_slice(&parts.concat()) {
                Ok(Call::Open { handle, .. }) => opened.push(handle),
                other => panic!("{other:?}"),
            },
            other => panic!("{other:?}"),
        }
    }
    (opened, closed)
}

fn open(flight: &Flight) -> u64 {
    let what = Openable::Point { machine: MachineId::from("web"), point: PointId(1) };
    let handle = flight.new_handle();
    let call = Call::Open { handle, what: what.clone(), cut: None };
    let (id, _answer, _) = flight.board(Ask { opens: Some((handle, what)), ..Ask::call(&call) });
    assert_eq!(out(flight), (vec![handle], vec![]));
    let opened = serde_json::to_vec(&Opened { cut: Some("cut".into()), disks: vec![] }).unwrap();
    flight.landing(id).unwrap().last(opened);
    handle
}

#[test]
fn a_point_that_is_let_go_before_it_was_opened_again_is_not() {
    let flight = Flight::default();
    flight.connected();
    let (first, second, third) = (open(&flight), open(&flight), open(&flight));
    flight.lost(&Fault::protocol("a cut"));
    flight.connected();
    // One at a time is granted, so the others wait.
    let Next::Send { kind: Kind::Call, id, .. } = flight.next(GRANT) else {
        panic!("{first} is opened again")
    };
    flight.close_handle(second);
    flight.landing(id).unwrap().last(b"{}".to_vec());
    assert_eq!(out(&flight), (vec![third], vec![second]));
}
