//! Which app is a session of? The five fields that many sessions share, checked once.
//!
//! Invariant: what an [`App`] holds the daemon accepts, so a mistake shows where it is made and never on the way of a report.
//! Two apps of the same five fields are equal.

use std::{fmt, sync::Arc};

use uuid::Uuid;

use crate::invalid::Invalid;

const MAX_SLUG_CHARACTERS: usize = 256;

/// How a user reached an app; the numbers of the wire.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum AccessMethod {
    /// By a path on the proxy's own host name.
    Path = 1,
    /// By a host name of the app's own.
    Subdomain = 2,
    /// By a terminal.
    Terminal = 3,
}

/// What an id may be given as: a [`Uuid`], its 16 bytes in network order, or text.
pub trait IntoId: fmt::Debug {
    /// The id; `None` where it is no UUID.
    fn into_id(self) -> Option<Uuid>;
}

impl IntoId for Uuid {
    fn into_id(self) -> Option<Uuid> {
        Some(self)
    }
}

impl IntoId for [u8; 16] {
    fn into_id(self) -> Option<Uuid> {
        Some(Uuid::from_bytes(self))
    }
}

impl IntoId for &[u8] {
    fn into_id(self) -> Option<Uuid> {
        Uuid::from_slice(self).ok()
    }
}

impl IntoId for &str {
    fn into_id(self) -> Option<Uuid> {
        Uuid::parse_str(self).ok()
    }
}

/// The id, unless it is none or nil; the message calls it `name`.
pub(crate) fn valid_id(name: &str, value: impl IntoId) -> Result<Uuid, Invalid> {
    let shown = format_args!("{value:?}").to_string();
    value.into_id().filter(|id| !id.is_nil()).ok_or_else(|| {
        Invalid(format!("{name} is {shown}; it has to be a UUID (uuid::Uuid, 16 bytes or text) and not nil"))
    })
}

/// One app of one workspace as one user reaches it. It does not change, can be used for any number of sessions, and is
/// cheap to clone.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct App(Arc<Fields>);

#[derive(PartialEq, Eq, Hash)]
struct Fields {
    user_id: Uuid,
    workspace_id: Uuid,
    agent_id: Uuid,
    access_method: AccessMethod,
    slug_or_port: String,
}

impl App {
    /// The app that these five fields name.
    ///
    /// # Errors
    /// Where an id is no UUID or nil, or where `slug_or_port` is longer than 256 characters or holds a NUL, or is empty
    /// though the access method is not the terminal.
    pub fn new(
        user_id: impl IntoId,
        workspace_id: impl IntoId,
        agent_id: impl IntoId,
        access_method: AccessMethod,
        slug_or_port: impl Into<String>,
    ) -> Result<Self, Invalid> {
        let slug_or_port = slug_or_port.into();
        if slug_or_port.chars().count() > MAX_SLUG_CHARACTERS || slug_or_port.contains('\0') {
            let what = "it has at most 256 characters, and no NUL";
            return Err(Invalid(format!("slug_or_port is {slug_or_port:?}; {what}")));
        }
        if slug_or_port.is_empty() && access_method != AccessMethod::Terminal {
            return Err(Invalid("slug_or_port is empty; only a terminal's may be".into()));
        }
        Ok(Self(Arc::new(Fields {
            user_id: valid_id("user_id", user_id)?,
            workspace_id: valid_id("workspace_id", workspace_id)?,
            agent_id: valid_id("agent_id", agent_id)?,
            access_method,
            slug_or_port,
        })))
    }

    /// Who uses the app.
    pub fn user_id(&self) -> Uuid {
        self.0.user_id
    }

    /// The workspace that it runs in.
    pub fn workspace_id(&self) -> Uuid {
        self.0.workspace_id
    }

    /// The agent in the workspace that serves it.
    pub fn agent_id(&self) -> Uuid {
        self.0.agent_id
    }

    /// How the user reached it.
    pub fn access_method(&self) -> AccessMethod {
        self.0.access_method
    }

    /// The app's slug, or the forwarded port.
    pub fn slug_or_port(&self) -> &str {
        &self.0.slug_or_port
    }

    /// At most how much it adds to a batch, in bytes: its fields, and tags and lengths of them and of the message itself.
    pub(crate) fn wire_bytes(&self) -> usize {
        3 * 16 + 1 + self.0.slug_or_port.len() + 18
    }
}

impl fmt::Debug for App {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Fields { user_id, workspace_id, agent_id, access_method, slug_or_port } = &*self.0;
        write!(formatter, "App({user_id}, {workspace_id}, {agent_id}, {access_method:?}, {slug_or_port:?})")
    }
}
