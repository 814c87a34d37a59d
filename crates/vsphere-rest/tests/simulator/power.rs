//! Machines switched on and off, asserted by what the API reads back and by what the simulator does by itself.

use crate::sim::{BOTH, Mode, Sim, machines};
use serde_json::json;
use vmware_vsphere_rest::{Dialect, Guest, Power, Refusal};

#[tokio::test(flavor = "multi_thread")]
async fn power_is_switched_and_a_state_that_is_there_is_a_refusal_of_its_own() {
    for dialect in BOTH {
        let Some(sim) = Sim::start(Mode::VCenter) else { return };
        let vcenter = sim.connect(dialect).await;
        let machine = machines(&vcenter).await.remove(0);
        let id = &machine.id;
        assert!(vcenter.start(id).await.unwrap_err().is_already());
        vcenter.reset(id).await.unwrap();
        vcenter.suspend(id).await.unwrap();
        assert_eq!(vcenter.power(id).await.unwrap(), Power::Suspended);
        assert!(vcenter.suspend(id).await.unwrap_err().is_already());
        vcenter.start(id).await.unwrap();
        assert_eq!(vcenter.power(id).await.unwrap(), Power::On);
        vcenter.stop(id).await.unwrap();
        assert_eq!(vcenter.power(id).await.unwrap(), Power::Off);
        assert!(vcenter.stop(id).await.unwrap_err().is_already());
        let refused = vcenter.reset(id).await.unwrap_err();
        assert!(refused.refusal().is_some(), "{refused:?}");
        assert_eq!(vcenter.power(id).await.unwrap(), Power::Off);
        sim.tell("power", json!({ "machine": machine.name, "action": "on" })).await;
        assert_eq!(vcenter.power(id).await.unwrap(), Power::On);
        // The host says no.
        let no = json!({ "method": "PowerOffVM_Task", "fault": "NoPermission", "count": 1 });
        sim.tell("call-fault", no).await;
        let refused = vcenter.stop(id).await.unwrap_err();
        assert!(refused.refusal().is_some() && !refused.is_already(), "{refused:?}");
        assert_eq!(vcenter.power(id).await.unwrap(), Power::On);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_guest_is_shut_down_by_its_tools_alone() {
    let Some(sim) = Sim::start(Mode::VCenter) else { return };
    let vcenter = sim.connect(Dialect::Api).await;
    let machine = machines(&vcenter).await.remove(0);
    let id = &machine.id;
    sim.tell("tools", json!({ "machine": machine.name, "running": false })).await;
    assert!(!vcenter.guest_power(id).await.unwrap().operations_ready);
    let refused = vcenter.shut_down_guest(id).await.unwrap_err();
    assert_eq!(refused.refusal(), Some(&Refusal::ServiceUnavailable), "{refused:?}");
    assert_eq!(vcenter.power(id).await.unwrap(), Power::On);
    sim.tell("tools", json!({ "machine": machine.name, "running": true })).await;
    let guest = vcenter.guest_power(id).await.unwrap();
    assert!(guest.operations_ready && guest.state == Guest::Running);
    vcenter.shut_down_guest(id).await.unwrap();
    let mut power = Power::On;
    for _ in 0..2_000 {
        power = vcenter.power(id).await.unwrap();
        if power == Power::Off {
            break;
        }
    }
    assert_eq!(power, Power::Off);
    let refused = vcenter.shut_down_guest(id).await.unwrap_err();
    assert!(refused.refusal().is_some(), "{refused:?}");
}
