//! Every pane as a picture, light and dark, on the demo bundle.
//!
//! `UPDATE_SNAPSHOTS=force cargo test --release snapshots` draws them anew.

use egui_kittest::kittest::Queryable as _;
use egui_kittest::{Harness, SnapshotOptions, SnapshotResults};
use haze::app::HazeApp;
use haze::app::action::Action;
use haze::app::dialogs::Dialogs;
use haze::app::layout::PaneKind;
use haze::app::state::selection::{Item, SelectMode};

use super::{decoded, options, real_engine, send, wait};

/// Whether there is anything to draw with.
fn can_draw() -> bool {
    let instance = wgpu::Instance::new(wgpu::InstanceDescriptor::new_without_display_handle());
    let adapters = pollster_block(instance.enumerate_adapters(wgpu::Backends::PRIMARY));
    if adapters.is_empty() {
        eprintln!("skipped: no graphics adapter, not even a software one (mesa-vulkan-drivers)");
    }
    !adapters.is_empty()
}

fn pollster_block<T>(future: impl Future<Output = T>) -> T {
    let mut future = std::pin::pin!(future);
    let waker = std::task::Waker::noop();
    let mut context = std::task::Context::from_waker(waker);
    loop {
        if let std::task::Poll::Ready(value) = future.as_mut().poll(&mut context) {
            return value;
        }
        std::thread::yield_now();
    }
}

fn drawn(size: [f32; 2], scale: f32) -> Harness<'static, HazeApp> {
    Harness::builder()
        .with_size(egui::Vec2::from(size))
        .with_pixels_per_point(scale)
        .with_theme(egui::Theme::Dark)
        .with_max_steps(64)
        .with_render_cursor(false)
        .wgpu()
        .build_eframe(|creation| {
            HazeApp::with_engine(creation, options(), real_engine(), Dialogs::cancelled())
        })
}

/// Pictures differ a little from one rasteriser to the next.
fn tolerance() -> SnapshotOptions {
    SnapshotOptions::new().threshold(1.5).max_failed_pixels(600)
}

#[test]
fn snapshots_of_every_pane_in_light_and_dark() {
    if !can_draw() {
        return;
    }
    let mut harness = drawn([860.0, 620.0], 1.0);
    let mut form = harness.state().state().form.clone();
    form.sampling.samples = 8;
    form.decoding.steps = 8;
    send(&mut harness, Action::EditForm { form: Box::new(form), analyse: false });
    send(&mut harness, Action::QueryText("food".to_owned()));
    wait(&mut harness, "the first query", 60, decoded);
    send(&mut harness, Action::QueryText("a glossy drawing of a red apple".to_owned()));
    wait(&mut harness, "the second query", 60, |app| {
        decoded(app) && app.state().entry().is_some_and(|entry| entry.title().contains("apple"))
    });
    let first = harness.state().state().history.iter().next().unwrap().id;
    send(&mut harness, Action::CompareWith(Some(first)));
    send(
        &mut harness,
        Action::Select {
            items: vec![Item::Sample(2)],
            mode: SelectMode::Replace,
            from: PaneKind::Samples,
        },
    );
    let mut results = SnapshotResults::new();
    for (theme, name) in [(egui::Theme::Dark, "dark"), (egui::Theme::Light, "light")] {
        harness.ctx.set_theme(theme);
        for pane in PaneKind::ALL {
            send(&mut harness, Action::ShowPane(pane));
            // Thumbnails are read by workers.
            for _ in 0..20 {
                harness.step();
                std::thread::sleep(std::time::Duration::from_millis(10));
            }
            // How long a decode takes is another time from run to run.
            let plans = harness.query_all_by_label_contains(" images, ");
            let plans: Vec<egui::Rect> = plans.map(|node| node.rect()).collect();
            for plan in plans {
                harness.mask(egui::Rect::from_min_size(plan.min, egui::vec2(240.0, 18.0)));
            }
            let file = format!("{}_{name}", pane.title().to_lowercase());
            results.add(harness.try_snapshot_options(&file, &tolerance()));
        }
    }
}

/// Nothing clipped or overlapping is for eyes; that the whole window draws at these sizes is not.
#[test]
fn the_window_draws_at_every_common_size() {
    if !can_draw() {
        return;
    }
    for (size, scale) in [([600.0, 400.0], 1.0), ([1280.0, 720.0], 1.0), ([1920.0, 1080.0], 2.0)] {
        let mut harness = drawn(size, scale);
        harness.run_steps(4);
        let image = harness.render().unwrap();
        let [width, height] = size.map(|s| (s * scale) as u32);
        assert_eq!(image.dimensions(), (width, height));
        let colours: std::collections::BTreeSet<_> = image.pixels().map(|p| p.0).collect();
        assert!(colours.len() > 20, "{size:?}: the window is blank");
    }
}
