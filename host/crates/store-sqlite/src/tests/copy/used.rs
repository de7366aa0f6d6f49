//! A target that is not just a copy of the source: a host already uses it, or it contains other sessions.

use super::*;

impl Both {
    async fn survey(&self) -> CopySurvey {
        self.copying().survey(true).await.unwrap()
    }
}

#[tokio::test]
async fn a_target_that_a_host_has_written_is_noticed_before_anything_is_written() {
    let both = Both::open();
    let id = both.source.create(&text(1)).await;
    both.copy().await;
    assert_eq!(both.survey().await.used, 0);
    both.target.update(&id, &text(2)).await;
    assert_eq!(both.survey().await.used, 1);
}

#[tokio::test]
async fn a_target_that_was_visited_is_noticed_and_its_expiry_stays() {
    let both = Both::open();
    let id = both.source.create(&text(1)).await;
    both.copy().await;
    let visit = Touch {
        id: id.clone(),
        expires_at_s: NOW_S + 7200,
    };
    both.target.store.touch_many(&[visit], NOW_S).await.unwrap();
    assert_eq!(both.survey().await.used, 1);
    let totals = both.copy().await;
    assert_eq!((totals.newer, totals.extended), (1, 0));
    let row = both.target.row(&id).await.unwrap();
    assert_eq!(row.expires_at_s, NOW_S + 7200);
}

#[tokio::test]
async fn a_row_without_a_common_commit_is_left_alone_where_it_ends_later() {
    let both = Both::open();
    let id = both.source.create(&text(0)).await;
    both.copy().await;
    // More commits than a history holds.
    for n in 1..6 {
        both.target.update(&id, &text(n)).await;
    }
    assert_eq!(both.survey().await.used, 0, "no expiry tells");
    let visit = Touch {
        id: id.clone(),
        expires_at_s: NOW_S + 7200,
    };
    both.target.store.touch_many(&[visit], NOW_S).await.unwrap();
    assert_eq!(both.survey().await.used, 1);
    assert_eq!(both.copy().await.newer, 1);
    let row = both.target.row(&id).await.unwrap();
    assert_eq!(&row.data[..], text(5).as_bytes());
}

#[tokio::test]
async fn rows_only_in_the_target_are_counted_before_they_are_deleted() {
    let both = Both::open();
    both.source.create(&text(1)).await;
    for n in 0..3 {
        both.target.create(&text(n)).await;
    }
    let expected = CopySurvey {
        used: 0,
        sessions: 3,
        alone: 3,
    };
    assert_eq!(both.survey().await, expected);
    assert!(!expected.may_delete(None) && expected.may_delete(Some(3)));
    both.copy().await;
    let mut totals = CopyTotals::default();
    both.copying().remove(2, &mut totals).await.unwrap();
    assert_eq!(totals.removed, 2, "no more than was agreed on");
    assert_eq!(both.verify().await.extra, 1);
}
