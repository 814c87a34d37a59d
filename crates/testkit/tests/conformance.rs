//! The in-memory world keeps every contract: the suites, run on it.

mod memory;

use memory::{AtJournal, AtLanding, AtMasterTarget, AtProcessServer, AtSite, AtStore, AtTarget, Honest};

mod source {
    use super::*;
    site_recovery_testkit::source_suite!(AtSite<Honest>);
}

mod store {
    use super::*;
    mod replica {
        use super::*;
        site_recovery_testkit::replica_suite!(AtStore<Honest>);
    }
    site_recovery_testkit::store_suite!(AtStore<Honest>);
}

mod target {
    use super::*;
    mod recovery_site {
        use super::*;
        site_recovery_testkit::recovery_site_suite!(AtTarget<Honest>);
    }
    site_recovery_testkit::target_suite!(AtTarget<Honest>);
}

mod master_target {
    use super::*;
    mod replica {
        use super::*;
        site_recovery_testkit::replica_suite!(AtMasterTarget<Honest>);
    }
    mod recovery_site {
        use super::*;
        site_recovery_testkit::recovery_site_suite!(AtMasterTarget<Honest>);
    }
    site_recovery_testkit::master_target_suite!(AtMasterTarget<Honest>);
}

mod landing_site {
    use super::*;
    site_recovery_testkit::landing_site_suite!(AtLanding<Honest>);
}

mod process_server {
    use super::*;
    site_recovery_testkit::process_server_suite!(AtProcessServer<Honest, false>);
}

mod process_server_with_a_spool {
    use super::*;
    site_recovery_testkit::process_server_suite!(AtProcessServer<Honest, true>);
}

mod journal {
    use super::*;
    site_recovery_testkit::journal_suite!(AtJournal<Honest>);
}
