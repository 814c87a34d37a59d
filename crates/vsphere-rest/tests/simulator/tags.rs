//! Tags, in both dialects. Below `/rest` this is VMware's own code, and it holds what `/api` shows.

use crate::sim::{BOTH, Mode, Sim, machines};
use serde_json::json;
use site_recovery::ErrorKind;
use vmware_vsphere_rest::{Cardinality, Dialect, Error, ObjectId, Refusal, TagName, TagWatch};

#[tokio::test(flavor = "multi_thread")]
async fn machines_are_chosen_by_tag_and_a_tag_is_followed() {
    for dialect in BOTH {
        let Some(sim) = Sim::start(Mode::VCenter) else { return };
        let vcenter = sim.connect(dialect).await;
        let gold: TagName = "dr=gold".parse().unwrap();
        assert!(vcenter.find_tag(&gold).await.unwrap().is_none());
        assert!(matches!(vcenter.machines_by_tag(&gold).await.unwrap_err(), Error::NoTag { .. }));
        let mut watch = TagWatch::new(vcenter.clone(), gold.clone());
        assert!(matches!(watch.look().await.unwrap_err(), Error::NoTag { .. }));

        let other = vcenter.create_category("owner", &Cardinality::Multiple, &[]).await.unwrap();
        let category =
            vcenter.create_category("dr", &Cardinality::Single, &["VirtualMachine"]).await.unwrap();
        let tag = vcenter.create_tag(&category, "gold").await.unwrap();
        let namesake = vcenter.create_tag(&other, "gold").await.unwrap();
        let again = vcenter.create_tag(&category, "gold").await.unwrap_err();
        assert_eq!(again.refusal(), Some(&Refusal::AlreadyExists), "{again:?}");
        let mut categories = vcenter.categories().await.unwrap();
        categories.sort();
        let mut both = vec![other.clone(), category.clone()];
        both.sort();
        assert_eq!(categories, both);
        let found = vcenter.find_category("dr").await.unwrap().unwrap();
        assert_eq!((&found.id, &found.cardinality), (&category, &Cardinality::Single));
        assert_eq!(found.associable_types, ["VirtualMachine"]);
        assert_eq!(vcenter.tags(&category).await.unwrap(), std::slice::from_ref(&tag));
        assert_eq!(vcenter.find_tag(&gold).await.unwrap().unwrap().id, tag);

        let all = machines(&vcenter).await;
        let (first, second) = (ObjectId::from(&all[0].id), ObjectId::from(&all[1].id));
        vcenter.attach(&tag, &first).await.unwrap();
        vcenter.attach(&tag, &first).await.unwrap();
        vcenter.attach(&namesake, &second).await.unwrap();
        let chosen = vcenter.machines_by_tag(&gold).await.unwrap();
        assert_eq!(chosen, [all[0].clone()]);
        let changes = watch.look().await.unwrap();
        assert_eq!((changes.added.len(), changes.added[0].clone()), (1, all[0].id.clone()));

        vcenter.attach(&tag, &second).await.unwrap();
        vcenter.detach(&tag, &first).await.unwrap();
        let changes = watch.look().await.unwrap();
        assert_eq!((changes.added, changes.removed), (vec![all[1].id.clone()], vec![all[0].id.clone()]));
        assert!(watch.look().await.unwrap().is_empty());

        let rows = vcenter.attached_objects_on(&[tag.clone(), namesake.clone()]).await.unwrap();
        let of = |wanted| rows.iter().find(|row| row.tag == wanted).unwrap().objects.clone();
        assert_eq!((of(tag.clone()), of(namesake.clone())), (vec![second.clone()], vec![second.clone()]));
        let rows = vcenter.attached_tags_on(&[first.clone(), second.clone()]).await.unwrap();
        let tags = rows.iter().find(|row| row.object == second).unwrap().tags.len();
        assert_eq!(
            (tags, rows.iter().find(|row| row.object == first).map_or(0, |row| row.tags.len())),
            (2, 0)
        );

        vcenter.delete_tag(&tag).await.unwrap();
        assert_eq!(vcenter.tag(&tag).await.unwrap_err().kind(), ErrorKind::NotFound);
        assert_eq!(vcenter.attach(&tag, &first).await.unwrap_err().kind(), ErrorKind::NotFound);
        assert!(matches!(watch.look().await.unwrap_err(), Error::NoTag { .. }));
        assert_eq!(watch.seen().len(), 1);
        vcenter.delete_category(&category).await.unwrap();
        assert_eq!(vcenter.category(&category).await.unwrap_err().kind(), ErrorKind::NotFound);
        assert_eq!(vcenter.categories().await.unwrap(), [other]);
    }
}

/// What one dialect writes the other reads.
#[tokio::test(flavor = "multi_thread")]
async fn both_dialects_see_one_state() {
    let Some(sim) = Sim::start(Mode::VCenter) else { return };
    let api = sim.connect(Dialect::Api).await;
    let category = api.create_category("dr", &Cardinality::Single, &[]).await.unwrap();
    let tag = api.create_tag(&category, "gold").await.unwrap();
    let machine = machines(&api).await.remove(1);
    api.attach(&tag, &ObjectId::from(&machine.id)).await.unwrap();
    api.log_out().await.unwrap();
    let rest = sim.connect(Dialect::Rest).await;
    assert_eq!(rest.machines_by_tag(&"dr=gold".parse().unwrap()).await.unwrap(), [machine]);
    sim.tell("clear", json!({})).await;
    rest.log_out().await.unwrap();
}
