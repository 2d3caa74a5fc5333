//! The two ends of an engine: the one a window holds, and the one the lanes (or a test) hold.

use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, TryRecvError};

use super::protocol::{JobId, Message, Order, Work};

/// A window's end. Dropping it ends the lanes after their current step.
pub struct EngineHandle {
    orders: Sender<Order>,
    messages: Receiver<Message>,
    next_job: u64,
}

/// The engine's end.
pub struct EngineEnd {
    pub orders: Receiver<Order>,
    pub messages: MessageSender,
}

/// Sends messages and wakes the listener.
#[derive(Clone)]
pub struct MessageSender {
    messages: Sender<Message>,
    wake: Arc<dyn Fn() + Send + Sync>,
}

impl MessageSender {
    /// False when nobody listens any more.
    pub fn send(&self, message: Message) -> bool {
        let sent = self.messages.send(message).is_ok();
        (self.wake)();
        sent
    }
}

/// Connects the two ends. `wake` is called after every message, from any thread. `first_job` is
/// the first id to be given out, so that a restarted engine never repeats one.
pub fn channel(
    first_job: u64,
    wake: impl Fn() + Send + Sync + 'static,
) -> (EngineHandle, EngineEnd) {
    let (order_sender, orders) = std::sync::mpsc::channel();
    let (message_sender, messages) = std::sync::mpsc::channel();
    let handle = EngineHandle { orders: order_sender, messages, next_job: first_job };
    let messages = MessageSender { messages: message_sender, wake: Arc::new(wake) };
    (handle, EngineEnd { orders, messages })
}

impl EngineHandle {
    /// Queues work and names it. Where the engine has died, the job is silently lost; the next
    /// [`EngineHandle::poll`] says so.
    pub fn submit(&mut self, work: Work) -> JobId {
        let job = JobId(self.next_job);
        self.next_job += 1;
        let _ = self.orders.send(Order::Submit { job, work });
        job
    }

    /// Ends a job at its next step.
    pub fn cancel(&self, job: JobId) {
        let _ = self.orders.send(Order::Cancel(job));
    }

    /// Holds a job before its next step, or lets it go on.
    pub fn pause(&self, job: JobId, paused: bool) {
        let _ = self.orders.send(Order::Pause { job, paused });
    }

    /// The next message, if one is there. Never waits.
    ///
    /// # Errors
    /// [`EngineDied`] when the engine is gone and all it said was heard.
    pub fn poll(&self) -> Result<Option<Message>, EngineDied> {
        match self.messages.try_recv() {
            Ok(message) => Ok(Some(message)),
            Err(TryRecvError::Empty) => Ok(None),
            Err(TryRecvError::Disconnected) => Err(EngineDied),
        }
    }

    /// The id that the next job will get.
    pub fn next_job(&self) -> u64 {
        self.next_job
    }
}

/// The engine's threads have ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the engine has stopped")]
pub struct EngineDied;
