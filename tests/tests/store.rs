//! The store's promises, on both databases.

use switchback_core::model::{FlagState, ValueType};
use switchback_store::{
    FlagRecord, NewEnvironment, NewFlag, Project, Stamp, Store, StoreError, UserRow,
};
use switchback_tests::{Backend, on_both};

fn stamp(n: u32) -> Stamp {
    Stamp {
        actor: "ada".to_owned(),
        reason: "test".to_owned(),
        at: i64::from(n),
        emergency: false,
        run_id: None,
        id: format!("chg_{n:06}"),
    }
}

async fn seeded(backend: &Backend) -> Store {
    let opened = switchback_store::open(&backend.address()).await.unwrap();
    assert!(opened.is_new);
    let store = opened.store;
    store.put_epoch("e1").await.unwrap();
    let environment = NewEnvironment {
        key: "prod".to_owned(),
        name: "Prod".to_owned(),
        kind: String::new(),
        protected: false,
        position: 0,
    };
    store.create_environment(&environment, &stamp(1)).await.unwrap();
    let project = Project {
        key: "default".to_owned(),
        name: "Default".to_owned(),
        description: String::new(),
        created_at: 0,
    };
    store.create_project(&project, &stamp(2)).await.unwrap();
    let record = FlagRecord {
        key: "cart".try_into().unwrap(),
        project: "default".to_owned(),
        kind: switchback_core::model::FlagKind::Release,
        value_type: ValueType::Boolean,
        salt: "cart".to_owned(),
        description: String::new(),
        owner: String::new(),
        tags: Vec::new(),
        lifetime_days: None,
        created_at: 0,
        created_by: "ada".to_owned(),
        archived_at: None,
    };
    store.create_flag(&NewFlag { record, state: FlagState::default() }, &stamp(3)).await.unwrap();
    store
}

async fn set(store: &Store, key: &str, enabled: bool, n: u32) -> Result<u64, StoreError> {
    let changed = store
        .change_flag::<StoreError>("prod", key, "test", &stamp(n), |before, _| {
            Ok(FlagState { enabled, ..before.clone() })
        })
        .await?;
    Ok(changed.revision)
}

on_both! {
    /// Every statement is understood by this database.
    async fn every_statement_prepares(backend: Backend) {
        let store = seeded(&backend).await;
        for statement in Store::statements(store.dialect()) {
            if let Err(error) = store.prepare(statement).await {
                panic!("{statement}\n{error:?}");
            }
        }
    }

    /// A visit goes on while its person is heard of, and a silence ends it.
    async fn a_silence_ends_a_visit(backend: Backend) {
        let store = seeded(&backend).await;
        let user = UserRow {
            id: "u1".to_owned(),
            email: "ada@example.com".to_owned(),
            name: "Ada".to_owned(),
            password_hash: "-".to_owned(),
            roles: std::collections::BTreeMap::new(),
            created_at: 0,
            disabled_at: None,
        };
        store.create_user(&user, &stamp(20)).await.unwrap();
        let previous = async |at| {
            store.note_visit("u1", "prod", at, 100).await.unwrap();
            store.previous_visit("u1", "prod").await.unwrap()
        };

        assert_eq!(previous(1_000).await, None);
        assert_eq!(previous(1_090).await, None);
        assert_eq!(previous(1_190).await, None, "each within the pause of the one before");
        assert_eq!(previous(1_291).await, Some(1_190));
        assert_eq!(previous(1_200).await, Some(1_190), "another node's clock is behind");
        assert_eq!(previous(1_391).await, Some(1_190));
    }

    /// A write that fails takes no number, so that there are no gaps.
    async fn a_failed_write_burns_no_revision(backend: Backend) {
        let store = seeded(&backend).await;

        let first = set(&store, "cart", true, 10).await.unwrap();
        let failed = set(&store, "nope", true, 11).await;
        let same = set(&store, "cart", true, 12).await.unwrap();
        let second = set(&store, "cart", false, 13).await.unwrap();

        assert!(matches!(failed, Err(StoreError::NotFound { kind: "flag", .. })));
        assert_eq!((same, second), (first, first + 1));
        let log = store.changed_subjects("prod", first - 1).await.unwrap();
        assert_eq!(log.iter().map(|row| row.0).collect::<Vec<_>>(), [first, second]);
    }

    /// Writers at the same time get different, consecutive revisions.
    async fn concurrent_writers_take_turns(backend: Backend) {
        let store = seeded(&backend).await;
        let start = store.get_environment("prod").await.unwrap().revision;

        let writers = (0..20_u32).map(|n| {
            let store = store.clone();
            tokio::spawn(async move {
                let changed = store
                    .change_flag::<StoreError>("prod", "cart", "test", &stamp(100 + n), |before, _| {
                        Ok(FlagState { expires_at: Some(i64::from(n)), ..before.clone() })
                    })
                    .await;
                changed.unwrap().revision
            })
        });
        let mut revisions = Vec::new();
        for writer in writers.collect::<Vec<_>>() {
            revisions.push(writer.await.unwrap());
        }

        revisions.sort_unstable();
        assert_eq!(revisions, (start + 1..=start + 20).collect::<Vec<_>>());
    }

    /// What a client of revision N is told leads to exactly the newest document.
    async fn changes_lead_to_the_newest_document(backend: Backend) {
        let store = seeded(&backend).await;
        let before = store.load_document("prod").await.unwrap();
        set(&store, "cart", true, 10).await.unwrap();

        let moved = store.load_changes("prod", before.revision).await.unwrap();
        let after = store.load_document("prod").await.unwrap();

        assert_eq!((moved.revision, moved.flags.len()), (after.revision, 1));
        assert_eq!(moved.flags[0].0, "cart");
        let unmoved = store.load_changes("prod", after.revision).await.unwrap();
        assert!(unmoved.flags.is_empty() && unmoved.segments.is_empty());
    }
}
