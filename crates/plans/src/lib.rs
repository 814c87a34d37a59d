//! Recovery plans: many machines over and back as one act, in groups, with programs and people between them.
#![forbid(unsafe_code)]

mod act;
mod actions;
mod address;
mod builder;
mod change;
mod check;
mod driver;
mod maps;
mod member;
mod plan;
mod plans;
mod record;
mod resolve;
mod run;
mod shared;
mod slot;
mod system;

pub use actions::{Actions, Command, KEPT_OUTPUT, Output};
pub use address::{AddressMap, NetworkMap, Subnet};
pub use builder::PlansBuilder;
pub use change::{Change, replay};
pub use check::{MOST_GROUPS, MOST_MACHINES};
pub use plan::{Action, Around, BootGroup, Does, Kind, Member, Part, Plan};
pub use plans::Plans;
pub use record::{PlanAudit, SCHEMA};
pub use run::{
    ActionRun, ActionState, Course, MachineRun, Mapped, MemberRun, MemberState, Outcome, PlanRun, RunState,
    Stage, StageRun,
};
pub use system::SystemActions;
