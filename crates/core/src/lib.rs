//! Protects machines of one site on another: replicates disks, keeps recovery points, fails over, commits or undoes,
//! replicates back and fails back with only what changed.
//!
//! This crate has the vocabulary, the [roles](role) that adapters implement, the [state machine](state) and the
//! [engine](Vault). It does no I/O of its own.
#![forbid(unsafe_code)]

mod alarm;
pub mod audit;
mod boot_proof;
mod capability;
mod capture;
mod clock;
mod disk;
mod engine;
mod epoch;
mod error;
mod event;
mod finding;
mod history;
mod id;
mod item;
mod loss;
mod machine;
#[cfg(feature = "mock")]
pub mod mock;
mod point;
mod policy;
mod pool;
mod power;
mod proof;
mod record;
mod recovery;
mod request;
pub mod role;
mod run;
mod settings;
pub mod state;
mod unit;
pub mod workflow;

pub use alarm::AlarmRule;
pub use boot_proof::{BootProof, KEPT_BOOT_PROOFS, Probed};
pub use capability::{Capability, Form};
pub use capture::{Capture, Changes, Consistency, Cursor, Fate, Member};
pub use clock::{Clock, Random, Spawner, SystemClock, SystemRandom, Timestamp, TokioSpawner};
pub use disk::{Disk, DiskMut, Disks};
pub use engine::{
    Adopted, AllowAll, Authorizer, Deadlines, Delivery, DiskSummary, Downtime, Events, GroupHandle,
    GuestPreparation, Health, HealthLevel, ItemHandle, Job, JobState, KEPT_NOTICES, MemberReport,
    NewestPoint, Notice, NoticeKind, Outcome, Plan, ProtectRequest, Report, Summary, TargetProperty,
    Validation, Vault, VaultBuilder, Verb,
};
pub use epoch::{Epoch, Op};
pub use error::{Error, ErrorKind, ErrorStatus, Result};
pub use event::{Event, apply};
pub use finding::{Finding, Readiness, Severity};
pub use history::History;
pub use id::{
    CutId, DiskId, EngineId, Generation, JobId, MachineId, NicId, OpKey, PointId, RoleName, UnitId,
};
pub use item::{Drill, Item, Lineage, Owed, PhaseRecord, Prepared, Promotion, Verdict};
pub use loss::{DataLoss, LossBasis};
pub use machine::{
    DiskRole, DiskSpec, Firmware, GuestFacts, Instance, Machine, Nic, OsFamily, Platform, Sidecar,
};
pub use point::{Control, Head, Manifest, Point, Seed, group_cuts};
pub use policy::{Policy, Retention};
pub use pool::{Block, Pool};
pub use power::{Armed, Booted, Lifted, Power, Stamp, Start, StartGuard};
pub use proof::{BootPermit, Evidence, Fenced, Forced, Observed, Peer};
pub use record::{Complete, HASH_BLOCK, Hash, Ingest, Landed, Payload, Record, Tally, fold};
pub use recovery::{Offer, Offers, Purpose, Recovery};
pub use request::{
    CommitRequest, CompleteCopy, Cutover, DisableRequest, DrillRequest, FailoverRequest, Force, OnUnfenced,
    PointChoice, PromoteRequest, ReprotectRequest, Request, Shutdown, UndoRequest,
};
pub use role::{
    Append, Basis, DiskLag, Journal, LOSING_SIDE, Lag, LandingSite, LastEntry, Leg, MasterTarget, POINT_ZERO,
    ProcessServer, RecoveryPointStore, RecoverySite, Replica, Role, Shipment, Shipped, Source, Sources,
    Survey, Target,
};
pub use run::{ALIGNMENT, ChangeSet, Extent, Fill, Run};
pub use settings::{DiskSettings, Location, NicSettings, Placement, Settings};
pub use state::{Operation, Refusal, State};
pub use unit::{REMEMBERED_RUNS, SCHEMA, Unit};
pub use workflow::{Class, Course, Failure, JobRun, Mark, Progress, Step, Task};
