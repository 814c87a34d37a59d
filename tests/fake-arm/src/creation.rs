//! Where the bytes of a new disk or snapshot come from.

use crate::answer::{Ruled, not_faked, parameter_missing, refuse, text};
use crate::asked::Asked;
use crate::place::{Kind, Target, same};
use crate::world::World;
use fake_blob::Image;
use serde_json::{Value, json};

const MINUTE: u64 = 60_000;
const MIB: u64 = 1 << 20;
const GIB: u64 = 1 << 30;
/// Uploads: 20 MiB at least, 32 TiB at most, and the footer.
const UPLOADS: std::ops::RangeInclusive<u64> = 20 * MIB + 512..=(32 << 40) + 512;

pub(crate) struct Made {
    /// What there will be, or why not: known now, told at the operation's end.
    pub(crate) image: Ruled<Image>,
    pub(crate) upload: bool,
    /// Of the disk, without a footer.
    pub(crate) size: u64,
    /// What the source tells of itself: `osType`, `hyperVGeneration`.
    pub(crate) inherited: Value,
    /// `creationData` as it is shown.
    pub(crate) shown: Value,
    /// The family of snapshots that the source belongs to: the unique id of the disk.
    pub(crate) family: Option<String>,
}

/// # Errors
/// What is refused at once.
pub(crate) fn made(world: &mut World, asked: &Asked, location: &str) -> Ruled<Made> {
    let properties = &asked.body["properties"];
    let data = &properties["creationData"];
    let option = text(data, "createOption", "disk.creationData.createOption")?;
    let wanted = properties["diskSizeGB"].as_u64().map(|gib| gib * GIB);
    let mut made = match option {
        "Empty" => empty(wanted)?,
        "Import" => import(world, asked, data, location)?,
        "Upload" => upload(data)?,
        "Copy" => copy(world, data, location)?,
        other => return Err(not_faked(&format!("createOption {other}"))),
    };
    made.shown = without(data, &["sourceUniqueId"]);
    if let (Some(family), "Copy") = (&made.family, option) {
        made.shown["sourceUniqueId"] = family.clone().into();
    }
    if let (Some(wanted), false) = (wanted, made.upload) {
        if wanted < made.size {
            let message = "Requested disk size is smaller than the size of the source.";
            return Err(refuse(400, "BadRequest", message));
        }
        made.size = wanted;
        if let Ok(image) = &mut made.image {
            image.resize(wanted);
        }
    }
    Ok(made)
}

/// Whether a body asks for what was made by this creation data.
pub(crate) fn same_creation(shown: &Value, asked: &Value) -> bool {
    let names = ["createOption", "sourceUri", "sourceResourceId", "storageAccountId", "uploadSizeBytes"];
    names.iter().all(|name| match (&shown[*name], &asked[*name]) {
        (Value::String(a), Value::String(b)) => same(a, b),
        (a, b) => a == b,
    })
}

fn simple(image: Ruled<Image>, size: u64) -> Made {
    Made { image, upload: false, size, inherited: json!({}), shown: Value::Null, family: None }
}

fn empty(wanted: Option<u64>) -> Ruled<Made> {
    let size = wanted.ok_or_else(|| parameter_missing("disk.diskSizeGB"))?;
    Ok(simple(Ok(Image::new(size)), size))
}

fn upload(data: &Value) -> Ruled<Made> {
    let bytes = data["uploadSizeBytes"].as_u64();
    let bytes = bytes.ok_or_else(|| parameter_missing("disk.creationData.uploadSizeBytes"))?;
    if !UPLOADS.contains(&bytes) || !(bytes - 512).is_multiple_of(MIB) {
        let message = format!(
            "The value {bytes} of uploadSizeBytes is invalid: whole mebibytes and 512, of {} to {}.",
            UPLOADS.start(),
            UPLOADS.end()
        );
        return Err(refuse(400, "InvalidParameter", message));
    }
    Ok(Made { upload: true, ..simple(Ok(Image::new(bytes)), bytes - 512) })
}

fn import(world: &mut World, asked: &Asked, data: &Value, location: &str) -> Ruled<Made> {
    let uri = text(data, "sourceUri", "disk.creationData.sourceUri")?;
    let id = text(data, "storageAccountId", "storageAccountId")?;
    if uri.contains("snapshot=") {
        return Err(not_faked("the import of a blob's snapshot: no document says that it works"));
    }
    let account = world.config.accounts.iter().find(|account| uri.starts_with(&account.endpoint));
    let account = account.filter(|account| same(&account.id, id)).ok_or_else(|| {
        let message = format!("The source blob does not belong to the storage account '{id}'.");
        refuse(400, "InvalidParameter", message)
    })?;
    if !same(&account.location, location) {
        let message = format!(
            "Source blob and disk have to be in one location, not in {} and {location}.",
            account.location
        );
        return Err(refuse(400, "BadRequest", message));
    }
    let (blob, now) = (uri.split('?').next().unwrap_or(uri).to_owned(), world.clock.tick());
    if world.imports.get(&blob).is_some_and(|last| now < last + MINUTE) {
        let message = "The blob was imported less than a minute ago: one snapshot of it is taken a minute.";
        return Err(refuse(409, "SnapshotOperationRateExceeded", message));
    }
    world.imports.insert(blob, now);
    let image = asked.imported.clone().ok_or_else(|| not_faked("an import without a blob"))?;
    let size = image.as_ref().map_or(0, Image::size);
    Ok(simple(image, size))
}

fn copy(world: &mut World, data: &Value, location: &str) -> Ruled<Made> {
    let id = text(data, "sourceResourceId", "disk.creationData.sourceResourceId")?;
    let place = Target::place(id).filter(|place| matches!(place.kind, Kind::Disk | Kind::Snapshot));
    let place = place.ok_or_else(|| {
        refuse(
            400,
            "InvalidParameter",
            format!("The value {id} of creationData.sourceResourceId is invalid."),
        )
    })?;
    world.look_at(&place.key());
    let source = world.things.get(&place.key());
    let source = source.ok_or_else(|| refuse(404, "NotFound", format!("Resource {id} is not found.")))?;
    if source.property("provisioningState") != "Succeeded" || source.upload || source.incomplete > 0 {
        let message = format!("Resource {id} is not ready to be copied.");
        return Err(refuse(409, "OperationNotAllowed", message));
    }
    if !same(source.location(), location) {
        let message = format!("Resource {id} is in another location: {}.", source.location());
        return Err(refuse(400, "BadRequest", message));
    }
    let mut inherited = json!({});
    for name in ["osType", "hyperVGeneration"] {
        if let Some(value) = source.body["properties"].get(name) {
            inherited[name] = value.clone();
        }
    }
    let family = Some(source.unique().to_owned());
    Ok(Made { inherited, family, ..simple(Ok(source.image.clone()), source.image.size()) })
}

fn without(value: &Value, names: &[&str]) -> Value {
    let mut value = value.clone();
    if let Some(members) = value.as_object_mut() {
        members.retain(|name, _| !names.contains(&name.as_str()));
    }
    value
}
