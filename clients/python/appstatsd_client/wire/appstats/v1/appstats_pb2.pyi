from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class AccessMethod(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    ACCESS_METHOD_UNSPECIFIED: _ClassVar[AccessMethod]
    ACCESS_METHOD_PATH: _ClassVar[AccessMethod]
    ACCESS_METHOD_SUBDOMAIN: _ClassVar[AccessMethod]
    ACCESS_METHOD_TERMINAL: _ClassVar[AccessMethod]

class RejectionReason(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    REJECTION_REASON_UNSPECIFIED: _ClassVar[RejectionReason]
    REJECTION_REASON_INVALID_ID: _ClassVar[RejectionReason]
    REJECTION_REASON_INVALID_ACCESS_METHOD: _ClassVar[RejectionReason]
    REJECTION_REASON_INVALID_SLUG_OR_PORT: _ClassVar[RejectionReason]
    REJECTION_REASON_INVALID_TIME: _ClassVar[RejectionReason]
    REJECTION_REASON_CONFLICT: _ClassVar[RejectionReason]
ACCESS_METHOD_UNSPECIFIED: AccessMethod
ACCESS_METHOD_PATH: AccessMethod
ACCESS_METHOD_SUBDOMAIN: AccessMethod
ACCESS_METHOD_TERMINAL: AccessMethod
REJECTION_REASON_UNSPECIFIED: RejectionReason
REJECTION_REASON_INVALID_ID: RejectionReason
REJECTION_REASON_INVALID_ACCESS_METHOD: RejectionReason
REJECTION_REASON_INVALID_SLUG_OR_PORT: RejectionReason
REJECTION_REASON_INVALID_TIME: RejectionReason
REJECTION_REASON_CONFLICT: RejectionReason

class SessionReport(_message.Message):
    __slots__ = ("user_id", "workspace_id", "agent_id", "access_method", "slug_or_port", "session_id", "session_started_at_unix_nano", "session_ended_at_unix_nano", "requests")
    USER_ID_FIELD_NUMBER: _ClassVar[int]
    WORKSPACE_ID_FIELD_NUMBER: _ClassVar[int]
    AGENT_ID_FIELD_NUMBER: _ClassVar[int]
    ACCESS_METHOD_FIELD_NUMBER: _ClassVar[int]
    SLUG_OR_PORT_FIELD_NUMBER: _ClassVar[int]
    SESSION_ID_FIELD_NUMBER: _ClassVar[int]
    SESSION_STARTED_AT_UNIX_NANO_FIELD_NUMBER: _ClassVar[int]
    SESSION_ENDED_AT_UNIX_NANO_FIELD_NUMBER: _ClassVar[int]
    REQUESTS_FIELD_NUMBER: _ClassVar[int]
    user_id: bytes
    workspace_id: bytes
    agent_id: bytes
    access_method: AccessMethod
    slug_or_port: str
    session_id: bytes
    session_started_at_unix_nano: int
    session_ended_at_unix_nano: int
    requests: int
    def __init__(self, user_id: _Optional[bytes] = ..., workspace_id: _Optional[bytes] = ..., agent_id: _Optional[bytes] = ..., access_method: _Optional[_Union[AccessMethod, str]] = ..., slug_or_port: _Optional[str] = ..., session_id: _Optional[bytes] = ..., session_started_at_unix_nano: _Optional[int] = ..., session_ended_at_unix_nano: _Optional[int] = ..., requests: _Optional[int] = ...) -> None: ...

class App(_message.Message):
    __slots__ = ("user_id", "workspace_id", "agent_id", "access_method", "slug_or_port")
    USER_ID_FIELD_NUMBER: _ClassVar[int]
    WORKSPACE_ID_FIELD_NUMBER: _ClassVar[int]
    AGENT_ID_FIELD_NUMBER: _ClassVar[int]
    ACCESS_METHOD_FIELD_NUMBER: _ClassVar[int]
    SLUG_OR_PORT_FIELD_NUMBER: _ClassVar[int]
    user_id: bytes
    workspace_id: bytes
    agent_id: bytes
    access_method: AccessMethod
    slug_or_port: str
    def __init__(self, user_id: _Optional[bytes] = ..., workspace_id: _Optional[bytes] = ..., agent_id: _Optional[bytes] = ..., access_method: _Optional[_Union[AccessMethod, str]] = ..., slug_or_port: _Optional[str] = ...) -> None: ...

class SessionReportColumns(_message.Message):
    __slots__ = ("apps", "app", "session_ids", "session_started_at_unix_nano", "session_ended_at_unix_nano", "requests")
    APPS_FIELD_NUMBER: _ClassVar[int]
    APP_FIELD_NUMBER: _ClassVar[int]
    SESSION_IDS_FIELD_NUMBER: _ClassVar[int]
    SESSION_STARTED_AT_UNIX_NANO_FIELD_NUMBER: _ClassVar[int]
    SESSION_ENDED_AT_UNIX_NANO_FIELD_NUMBER: _ClassVar[int]
    REQUESTS_FIELD_NUMBER: _ClassVar[int]
    apps: _containers.RepeatedCompositeFieldContainer[App]
    app: _containers.RepeatedScalarFieldContainer[int]
    session_ids: bytes
    session_started_at_unix_nano: _containers.RepeatedScalarFieldContainer[int]
    session_ended_at_unix_nano: _containers.RepeatedScalarFieldContainer[int]
    requests: _containers.RepeatedScalarFieldContainer[int]
    def __init__(self, apps: _Optional[_Iterable[_Union[App, _Mapping]]] = ..., app: _Optional[_Iterable[int]] = ..., session_ids: _Optional[bytes] = ..., session_started_at_unix_nano: _Optional[_Iterable[int]] = ..., session_ended_at_unix_nano: _Optional[_Iterable[int]] = ..., requests: _Optional[_Iterable[int]] = ...) -> None: ...

class StreamReportsRequest(_message.Message):
    __slots__ = ("client_id", "sequence", "reports", "columns", "closing", "dropped_reports")
    CLIENT_ID_FIELD_NUMBER: _ClassVar[int]
    SEQUENCE_FIELD_NUMBER: _ClassVar[int]
    REPORTS_FIELD_NUMBER: _ClassVar[int]
    COLUMNS_FIELD_NUMBER: _ClassVar[int]
    CLOSING_FIELD_NUMBER: _ClassVar[int]
    DROPPED_REPORTS_FIELD_NUMBER: _ClassVar[int]
    client_id: str
    sequence: int
    reports: _containers.RepeatedCompositeFieldContainer[SessionReport]
    columns: SessionReportColumns
    closing: bool
    dropped_reports: int
    def __init__(self, client_id: _Optional[str] = ..., sequence: _Optional[int] = ..., reports: _Optional[_Iterable[_Union[SessionReport, _Mapping]]] = ..., columns: _Optional[_Union[SessionReportColumns, _Mapping]] = ..., closing: _Optional[bool] = ..., dropped_reports: _Optional[int] = ...) -> None: ...

class StreamReportsResponse(_message.Message):
    __slots__ = ("acked_sequence", "rejected")
    ACKED_SEQUENCE_FIELD_NUMBER: _ClassVar[int]
    REJECTED_FIELD_NUMBER: _ClassVar[int]
    acked_sequence: int
    rejected: _containers.RepeatedCompositeFieldContainer[RejectedReport]
    def __init__(self, acked_sequence: _Optional[int] = ..., rejected: _Optional[_Iterable[_Union[RejectedReport, _Mapping]]] = ...) -> None: ...

class RejectedReport(_message.Message):
    __slots__ = ("sequence", "index", "reason", "message")
    SEQUENCE_FIELD_NUMBER: _ClassVar[int]
    INDEX_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    MESSAGE_FIELD_NUMBER: _ClassVar[int]
    sequence: int
    index: int
    reason: RejectionReason
    message: str
    def __init__(self, sequence: _Optional[int] = ..., index: _Optional[int] = ..., reason: _Optional[_Union[RejectionReason, str]] = ..., message: _Optional[str] = ...) -> None: ...

class FlushRequest(_message.Message):
    __slots__ = ("as_of_unix_nano",)
    AS_OF_UNIX_NANO_FIELD_NUMBER: _ClassVar[int]
    as_of_unix_nano: int
    def __init__(self, as_of_unix_nano: _Optional[int] = ...) -> None: ...

class FlushResponse(_message.Message):
    __slots__ = ("rows_written", "backlog_rows")
    ROWS_WRITTEN_FIELD_NUMBER: _ClassVar[int]
    BACKLOG_ROWS_FIELD_NUMBER: _ClassVar[int]
    rows_written: int
    backlog_rows: int
    def __init__(self, rows_written: _Optional[int] = ..., backlog_rows: _Optional[int] = ...) -> None: ...

class GetStatusRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class ClientStatus(_message.Message):
    __slots__ = ("client_id", "connected", "last_sign_of_life_unix_nano", "acked_sequence", "live_sessions", "dropped_reports", "software")
    CLIENT_ID_FIELD_NUMBER: _ClassVar[int]
    CONNECTED_FIELD_NUMBER: _ClassVar[int]
    LAST_SIGN_OF_LIFE_UNIX_NANO_FIELD_NUMBER: _ClassVar[int]
    ACKED_SEQUENCE_FIELD_NUMBER: _ClassVar[int]
    LIVE_SESSIONS_FIELD_NUMBER: _ClassVar[int]
    DROPPED_REPORTS_FIELD_NUMBER: _ClassVar[int]
    SOFTWARE_FIELD_NUMBER: _ClassVar[int]
    client_id: str
    connected: bool
    last_sign_of_life_unix_nano: int
    acked_sequence: int
    live_sessions: int
    dropped_reports: int
    software: str
    def __init__(self, client_id: _Optional[str] = ..., connected: _Optional[bool] = ..., last_sign_of_life_unix_nano: _Optional[int] = ..., acked_sequence: _Optional[int] = ..., live_sessions: _Optional[int] = ..., dropped_reports: _Optional[int] = ..., software: _Optional[str] = ...) -> None: ...

class GetStatusResponse(_message.Message):
    __slots__ = ("version", "started_at_unix_nano", "live_sessions", "groups", "backlog_rows", "oldest_backlog_age_seconds", "quarantined_rows", "reports_accepted", "reports_rejected", "reports_duplicate", "rows_written", "last_flush_at_unix_nano", "last_flush_error", "database_state", "journal_bytes", "connected_streams", "sessions_abandoned", "reports_dropped_by_clients", "clients", "journal_damage", "database_url")
    VERSION_FIELD_NUMBER: _ClassVar[int]
    STARTED_AT_UNIX_NANO_FIELD_NUMBER: _ClassVar[int]
    LIVE_SESSIONS_FIELD_NUMBER: _ClassVar[int]
    GROUPS_FIELD_NUMBER: _ClassVar[int]
    BACKLOG_ROWS_FIELD_NUMBER: _ClassVar[int]
    OLDEST_BACKLOG_AGE_SECONDS_FIELD_NUMBER: _ClassVar[int]
    QUARANTINED_ROWS_FIELD_NUMBER: _ClassVar[int]
    REPORTS_ACCEPTED_FIELD_NUMBER: _ClassVar[int]
    REPORTS_REJECTED_FIELD_NUMBER: _ClassVar[int]
    REPORTS_DUPLICATE_FIELD_NUMBER: _ClassVar[int]
    ROWS_WRITTEN_FIELD_NUMBER: _ClassVar[int]
    LAST_FLUSH_AT_UNIX_NANO_FIELD_NUMBER: _ClassVar[int]
    LAST_FLUSH_ERROR_FIELD_NUMBER: _ClassVar[int]
    DATABASE_STATE_FIELD_NUMBER: _ClassVar[int]
    JOURNAL_BYTES_FIELD_NUMBER: _ClassVar[int]
    CONNECTED_STREAMS_FIELD_NUMBER: _ClassVar[int]
    SESSIONS_ABANDONED_FIELD_NUMBER: _ClassVar[int]
    REPORTS_DROPPED_BY_CLIENTS_FIELD_NUMBER: _ClassVar[int]
    CLIENTS_FIELD_NUMBER: _ClassVar[int]
    JOURNAL_DAMAGE_FIELD_NUMBER: _ClassVar[int]
    DATABASE_URL_FIELD_NUMBER: _ClassVar[int]
    version: str
    started_at_unix_nano: int
    live_sessions: int
    groups: int
    backlog_rows: int
    oldest_backlog_age_seconds: int
    quarantined_rows: int
    reports_accepted: int
    reports_rejected: int
    reports_duplicate: int
    rows_written: int
    last_flush_at_unix_nano: int
    last_flush_error: str
    database_state: str
    journal_bytes: int
    connected_streams: int
    sessions_abandoned: int
    reports_dropped_by_clients: int
    clients: _containers.RepeatedCompositeFieldContainer[ClientStatus]
    journal_damage: str
    database_url: str
    def __init__(self, version: _Optional[str] = ..., started_at_unix_nano: _Optional[int] = ..., live_sessions: _Optional[int] = ..., groups: _Optional[int] = ..., backlog_rows: _Optional[int] = ..., oldest_backlog_age_seconds: _Optional[int] = ..., quarantined_rows: _Optional[int] = ..., reports_accepted: _Optional[int] = ..., reports_rejected: _Optional[int] = ..., reports_duplicate: _Optional[int] = ..., rows_written: _Optional[int] = ..., last_flush_at_unix_nano: _Optional[int] = ..., last_flush_error: _Optional[str] = ..., database_state: _Optional[str] = ..., journal_bytes: _Optional[int] = ..., connected_streams: _Optional[int] = ..., sessions_abandoned: _Optional[int] = ..., reports_dropped_by_clients: _Optional[int] = ..., clients: _Optional[_Iterable[_Union[ClientStatus, _Mapping]]] = ..., journal_damage: _Optional[str] = ..., database_url: _Optional[str] = ...) -> None: ...

class QuarantinedRow(_message.Message):
    __slots__ = ("id", "user_id", "workspace_id", "agent_id", "access_method", "slug_or_port", "session_id", "session_started_at_unix_nano", "session_ended_at_unix_nano", "requests", "sessions", "message", "sqlstate", "quarantined_at_unix_nano")
    ID_FIELD_NUMBER: _ClassVar[int]
    USER_ID_FIELD_NUMBER: _ClassVar[int]
    WORKSPACE_ID_FIELD_NUMBER: _ClassVar[int]
    AGENT_ID_FIELD_NUMBER: _ClassVar[int]
    ACCESS_METHOD_FIELD_NUMBER: _ClassVar[int]
    SLUG_OR_PORT_FIELD_NUMBER: _ClassVar[int]
    SESSION_ID_FIELD_NUMBER: _ClassVar[int]
    SESSION_STARTED_AT_UNIX_NANO_FIELD_NUMBER: _ClassVar[int]
    SESSION_ENDED_AT_UNIX_NANO_FIELD_NUMBER: _ClassVar[int]
    REQUESTS_FIELD_NUMBER: _ClassVar[int]
    SESSIONS_FIELD_NUMBER: _ClassVar[int]
    MESSAGE_FIELD_NUMBER: _ClassVar[int]
    SQLSTATE_FIELD_NUMBER: _ClassVar[int]
    QUARANTINED_AT_UNIX_NANO_FIELD_NUMBER: _ClassVar[int]
    id: int
    user_id: bytes
    workspace_id: bytes
    agent_id: bytes
    access_method: AccessMethod
    slug_or_port: str
    session_id: bytes
    session_started_at_unix_nano: int
    session_ended_at_unix_nano: int
    requests: int
    sessions: int
    message: str
    sqlstate: str
    quarantined_at_unix_nano: int
    def __init__(self, id: _Optional[int] = ..., user_id: _Optional[bytes] = ..., workspace_id: _Optional[bytes] = ..., agent_id: _Optional[bytes] = ..., access_method: _Optional[_Union[AccessMethod, str]] = ..., slug_or_port: _Optional[str] = ..., session_id: _Optional[bytes] = ..., session_started_at_unix_nano: _Optional[int] = ..., session_ended_at_unix_nano: _Optional[int] = ..., requests: _Optional[int] = ..., sessions: _Optional[int] = ..., message: _Optional[str] = ..., sqlstate: _Optional[str] = ..., quarantined_at_unix_nano: _Optional[int] = ...) -> None: ...

class ListQuarantineRequest(_message.Message):
    __slots__ = ("after_id",)
    AFTER_ID_FIELD_NUMBER: _ClassVar[int]
    after_id: int
    def __init__(self, after_id: _Optional[int] = ...) -> None: ...

class ListQuarantineResponse(_message.Message):
    __slots__ = ("rows",)
    ROWS_FIELD_NUMBER: _ClassVar[int]
    rows: _containers.RepeatedCompositeFieldContainer[QuarantinedRow]
    def __init__(self, rows: _Optional[_Iterable[_Union[QuarantinedRow, _Mapping]]] = ...) -> None: ...

class RetryQuarantineRequest(_message.Message):
    __slots__ = ("ids", "all")
    IDS_FIELD_NUMBER: _ClassVar[int]
    ALL_FIELD_NUMBER: _ClassVar[int]
    ids: _containers.RepeatedScalarFieldContainer[int]
    all: bool
    def __init__(self, ids: _Optional[_Iterable[int]] = ..., all: _Optional[bool] = ...) -> None: ...

class RetryQuarantineResponse(_message.Message):
    __slots__ = ("rows_retried", "unknown_ids")
    ROWS_RETRIED_FIELD_NUMBER: _ClassVar[int]
    UNKNOWN_IDS_FIELD_NUMBER: _ClassVar[int]
    rows_retried: int
    unknown_ids: _containers.RepeatedScalarFieldContainer[int]
    def __init__(self, rows_retried: _Optional[int] = ..., unknown_ids: _Optional[_Iterable[int]] = ...) -> None: ...

class DropQuarantineRequest(_message.Message):
    __slots__ = ("ids", "all")
    IDS_FIELD_NUMBER: _ClassVar[int]
    ALL_FIELD_NUMBER: _ClassVar[int]
    ids: _containers.RepeatedScalarFieldContainer[int]
    all: bool
    def __init__(self, ids: _Optional[_Iterable[int]] = ..., all: _Optional[bool] = ...) -> None: ...

class DropQuarantineResponse(_message.Message):
    __slots__ = ("rows_dropped", "unknown_ids")
    ROWS_DROPPED_FIELD_NUMBER: _ClassVar[int]
    UNKNOWN_IDS_FIELD_NUMBER: _ClassVar[int]
    rows_dropped: int
    unknown_ids: _containers.RepeatedScalarFieldContainer[int]
    def __init__(self, rows_dropped: _Optional[int] = ..., unknown_ids: _Optional[_Iterable[int]] = ...) -> None: ...

class ForgetUserRequest(_message.Message):
    __slots__ = ("user_id", "dry_run")
    USER_ID_FIELD_NUMBER: _ClassVar[int]
    DRY_RUN_FIELD_NUMBER: _ClassVar[int]
    user_id: bytes
    dry_run: bool
    def __init__(self, user_id: _Optional[bytes] = ..., dry_run: _Optional[bool] = ...) -> None: ...

class ForgetUserResponse(_message.Message):
    __slots__ = ("live_sessions", "ended_sessions", "groups", "backlog_rows", "quarantined_rows", "database_rows", "database_error", "files_set_aside")
    LIVE_SESSIONS_FIELD_NUMBER: _ClassVar[int]
    ENDED_SESSIONS_FIELD_NUMBER: _ClassVar[int]
    GROUPS_FIELD_NUMBER: _ClassVar[int]
    BACKLOG_ROWS_FIELD_NUMBER: _ClassVar[int]
    QUARANTINED_ROWS_FIELD_NUMBER: _ClassVar[int]
    DATABASE_ROWS_FIELD_NUMBER: _ClassVar[int]
    DATABASE_ERROR_FIELD_NUMBER: _ClassVar[int]
    FILES_SET_ASIDE_FIELD_NUMBER: _ClassVar[int]
    live_sessions: int
    ended_sessions: int
    groups: int
    backlog_rows: int
    quarantined_rows: int
    database_rows: int
    database_error: str
    files_set_aside: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, live_sessions: _Optional[int] = ..., ended_sessions: _Optional[int] = ..., groups: _Optional[int] = ..., backlog_rows: _Optional[int] = ..., quarantined_rows: _Optional[int] = ..., database_rows: _Optional[int] = ..., database_error: _Optional[str] = ..., files_set_aside: _Optional[_Iterable[str]] = ...) -> None: ...
