//! The byte channels to the controller, and what runs over them: the agent's HTTP API, its requests to the controller, and every
//! outbound connection of the machine. Also the Unix socket for programs in the machine.

pub(crate) mod accept;
pub(crate) mod api;
pub(crate) mod connection_slots;
pub(crate) mod controller_client;
pub(crate) mod egress_proxy;
pub(crate) mod event_queue;
pub(crate) mod local_api;
pub(crate) mod resync;
pub(crate) mod send_events;
pub(crate) mod transport;
