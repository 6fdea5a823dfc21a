// Made from ../../schema.json by go test ./messages -update: do not edit.

/** Action tells a drone to do something, once, however often it is delivered ([ActionSubject]). Its ID is the same on every delivery. */
export interface Action {
  backend_id: string;
  id?: string;
  /** Nap is set for TypeSleep, where it is odd, and TypeWake, where it is even. A drone that has applied it, or a greater one, does nothing. */
  nap?: number;
  /** Spawn is set for TypeSpawn, Terminate for TypeTerminate. */
  spawn?: Spawn;
  terminate?: Terminate;
  time?: string;
  type: string;
}

/** BackendInfo is what Postgres knows of a backend. */
export interface BackendInfo {
  /** Address is host:port where the process listens; from waiting on. */
  address?: string;
  /** Asleep says that the backend is frozen at this moment. A drone may thaw one by itself, when in doubt: then Nap is odd and Asleep false, and the workers take it as awake, with the next nap. Asleep with an even nap there is not. */
  asleep?: boolean;
  backend_id: string;
  /** ChangedAt is when the status last changed. */
  changed_at: string;
  cluster: string;
  /** Crashes are the failures of its key in a row; left out: none. In the answer to [SubjectStatus] alone. */
  crashes?: Crashes;
  created_at: string;
  dormant_until?: string;
  drone: string;
  /** EndedAt is when it was terminated. */
  ended_at?: string;
  exit_code?: number;
  /** FencingToken is the one of the backend's own lease, also after another backend has acquired the key. */
  fencing_token?: number;
  key: Key;
  /** LastStatus is the status before terminated. */
  last_status?: Status;
  /** LastUsedAt is when somebody was last connected, or joined, as far as proxies have said; nil: never. */
  last_used_at?: string;
  /** Its limits, as its connect set them; left out: none. */
  lifetime_ends_at?: string;
  max_idle_seconds?: number;
  /** Message is for people: the exec error, the last words. At most MaxText bytes. */
  message?: string;
  more_users?: boolean;
  /** Nap is the greatest that the drone has applied; 0: none yet. */
  nap?: number;
  /** Number orders statuses. */
  number: number;
  pool?: string;
  /** ReclaimedBytes is the memory that the machine got back from it during this nap. */
  reclaimed_bytes?: number;
  /** ResumeSeconds is for how long its key is dormant once it has ended, and DormantUntil, once it has, until when, as long as no other backend has acquired the key since; Resumes is the backend whose life its own goes on. Left out: none. */
  resume_seconds?: number;
  resumes?: string;
  /** Runs is its image or its command, cut short. */
  runs?: string;
  /** SleepAfterSeconds and SleepIgnoresIdleConnections are as its connect set them. */
  sleep_after_seconds?: number;
  sleep_ignores_idle_connections?: boolean;
  status: Status;
  subdomain?: string;
  /** Template is what it was asked for by, if it was. */
  template?: string;
  /** By is who asked, as he calls himself. */
  termination_by?: string;
  /** Cause is there as soon as the backend was asked to end. */
  termination_cause?: string;
  termination_kind?: TerminationKind;
  termination_reason?: TerminationReason;
  /** Words say it to people. */
  termination_why?: string;
  /** Users are those who have tokens that live, by name, MaxUsers at most; MoreUsers says that there are more. In the answer to [SubjectStatus] alone. */
  users?: string[];
}

/** BackendsRequest lists backends by id, those that have not ended unless All. Each of the other fields that is given leaves out those of which it does not hold. */
export interface BackendsRequest {
  after?: string;
  all?: boolean;
  /** ChangedWithinSeconds are those whose status changed within so many seconds, by the database's clock. */
  changed_within_seconds?: number;
  drone?: string;
  /** Key are those that are, or were, for the key; its tag is not compared. */
  key?: Key;
  /** Limit is 1 to MaxPage; 0 is MaxPage. */
  limit?: number;
  /** Namespace are those for keys of a namespace, which may be ""; not beside Key. */
  namespace?: string;
  /** Statuses are those in one of these; where terminated is one, All is meant. */
  statuses?: Status[];
}

/** BackendsResponse is one page; Next goes into After of the next request, "" at the end. */
export interface BackendsResponse {
  backends: BackendInfo[];
  next?: string;
}

/** Challenge is a value that a certificate authority wants to find in the DNS, as TXT record of _acme-challenge.<domain>, before it gives a certificate for the domain or for *.domain (ACME's DNS-01). It is the payload of [SubjectDNSPresent] and [SubjectDNSRemove]. */
export interface Challenge {
  domain: string;
  value: string;
}

/** ConnectRequest asks for the backend that owns a key ([SubjectConnect]). */
export interface ConnectRequest {
  /** Auth is any JSON object; passed on as x-verified-user-data; see [HeaderJSON]. */
  auth?: Record<string, unknown>;
  /** Key may be left out: then a backend is spawned under a random key. */
  key?: Key;
  spawn_config?: SpawnConfig;
  /** TokenLifetimeSeconds is how long the token lives after its last use; nil: as long as the worker says. */
  token_lifetime_seconds?: number;
  /** User is passed on to the backend as x-verified-username; see [HeaderUser]. */
  user?: string;
}

/** ConnectResponse is the way to the backend. */
export interface ConnectResponse {
  backend_id: string;
  /** Drone is set when Spawned. */
  drone?: string;
  /** Resumes is the backend whose life this one's goes on: its key was dormant. Set when Spawned. */
  resumes?: string;
  /** SecretToken is shared with the backend (x-verified-secret); not with static tokens. */
  secret_token?: string;
  /** SpawnConfigIgnored says that the request joined what runs already: its spawn_config had no part in it. */
  spawn_config_ignored?: boolean;
  /** Spawned says that this request started it. */
  spawned: boolean;
  status: Status;
  /** Subdomain is set where the backend is reached through one only. */
  subdomain?: string;
  token: string;
  url: string;
}

/** Crashes are the lives of a key that failed, one after another: a backend that ended by itself within 10 s of its being ready, or before. One that was ready for a minute forgives them all. */
export interface Crashes {
  in_a_row: number;
  /** LastWords are how the last of them ended, for people; at most MaxLastWords bytes. */
  last_words?: string;
  /** RetryAfterMS is for how long the key rests: a connect that would start another one is refused with BackingOff. Left out: it does not. */
  retry_after_ms?: number;
}

/** Deadlines of a session's lease, in the drone's own boot-time milliseconds. Each counts from a time that the drone stated before the database wrote the lease, so a process is dead before its key can go to another. */
export interface Deadlines {
  hard_terminate_at_ms?: number;
  renew_at_ms?: number;
  soft_terminate_at_ms?: number;
}

/** DrainRequest has a drone be given no more backends, or, sent to [SubjectUndrain], be given some again. Again is no error. */
export interface DrainRequest {
  drone: string;
  /** EndAfterSeconds, if given, has the workers end softly, so many seconds from now, what the drone still runs then; 0 is at once. Left out, an earlier word on that stands until the drone is undrained. */
  end_after_seconds?: number;
}

/** DrainResponse says how many backends the drone has that have not ended. */
export interface DrainResponse {
  backends: number;
  /** EndInSeconds is in how many seconds the workers end those that are left, 0: now; left out where nobody said when. */
  end_in_seconds?: number;
}

/** DroneEvent says what happened to a drone ([DroneEventSubject]). */
export interface DroneEvent {
  cluster: string;
  drone: string;
  id: string;
  pool?: string;
  session: string;
  time: string;
  type: string;
}

/** DroneInfo is what Postgres knows of a drone. */
export interface DroneInfo {
  backends?: number;
  cluster: string;
  /** CPUMillis is in thousandths of a processor. */
  cpu_millis?: number;
  draining: boolean;
  drone: string;
  /** Full says that it takes no more for now: its capacity is reached, or it has refused a backend for want of room. */
  full?: boolean;
  /** HeardMSAgo is how long ago the drone was last heard from, by the database's clock. */
  heard_ms_ago: number;
  /** Lost says that it has not been heard from for as long as a lease lives. */
  lost?: boolean;
  max_backends?: number;
  /** MaxCPUMillis is in thousandths of a processor. */
  max_cpu_millis?: number;
  max_memory_bytes?: number;
  memory_bytes?: number;
  /** NotReady is why the drone says that it is not, if it does. */
  not_ready?: string;
  pool?: string;
  ready: boolean;
  runtime?: string;
  session: string;
  /** Spares are those that it said it keeps. */
  spares?: SpareState[];
  version?: string;
}

/** DronesRequest lists drones by name. */
export interface DronesRequest {
  after?: string;
  /** Limit is 1 to MaxPage; 0 is MaxPage. */
  limit?: number;
}

/** DronesResponse is one page, as BackendsResponse. */
export interface DronesResponse {
  drones: DroneInfo[];
  next?: string;
}

/** Error is the body of an error reply. ID is also in the worker's log line. */
export interface ErrorReply {
  /** Backends are those that the message had no right to speak of (reports only). */
  backends?: string[];
  id: string;
  kind: Kind;
  /** LastWords are how the key's last backend ended, for people (BackingOff only). */
  last_words?: string;
  message: string;
  /** Reason says more of the kind to programs: see [NoDrone], [UnavailableRestored]. A reader must expect reasons that it does not know. */
  reason?: string;
  /** RetryAfterMS is in how many milliseconds asking again is worth it (BackingOff only). */
  retry_after_ms?: number;
}

/** ForgetRequest has a lost drone be forgotten, with all that is on record for it. */
export interface ForgetRequest {
  drone: string;
}

/** HeartbeatRequest says that a drone lives and renews its session's lease. It costs the same whatever the drone holds. */
export interface HeartbeatRequest {
  drone_time_ms: number;
  load?: Load;
  not_ready?: string;
  /** Ready says that the drone takes spawns, NotReady why it does not, for people, where that is for them to mend: at most MaxNotReady bytes. */
  ready?: boolean;
  session: string;
  /** Spares are those that the drone keeps, by template: all of them, MaxTemplates entries at most. */
  spares?: SpareState[];
}

/** HeartbeatResponse says until when the session's lease was renewed. */
export interface HeartbeatResponse {
  /** Deadlines are those of all that the session holds, but for what is sealed. */
  deadlines: Deadlines;
  draining?: boolean;
  /** Sealed are backends of the session that are not renewed any more: they keep the deadlines that they had before, and the drone starts none of them that it has not started yet. */
  sealed?: string[];
  /** TemplatesRevision rises with every change of a template. A drone that has others asks for its own anew ([SubjectDroneTemplates]). */
  templates_revision?: number;
}

/** KeepaliveRequest names the backends with open or recent connections: all of them, unless it is partial. */
export interface KeepaliveRequest {
  backends?: string[];
  /** IdleMS says for each of Backends for how long nothing has been connected to it; 0, as for those past its end: something is. */
  idle_ms?: number[];
  /** Partial says that it does not name all: the rest follows, or was named before and is as it was. Otherwise nobody is connected any more to what it does not name. */
  partial?: boolean;
  /** SilentMS says for each of Backends that ignores idle connections for how long no byte has passed over those that are open; 0, as for those past its end: one has since the last word, or a request is being answered, or the backend does not ignore them. */
  silent_ms?: number[];
}

/** Key is what a backend is run for. Name and namespace identify it; the tag must match for a request to join. */
export interface Key {
  name: string;
  namespace?: string;
  tag?: string;
}

/** KeyInfo is what Postgres knows of a key. */
export interface KeyInfo {
  /** BackendID is the backend that holds the key, or held it last, which may be forgotten. Status and Drone are that backend's. */
  backend_id: string;
  /** Crashes are the failures of its backends in a row; left out: none. */
  crashes?: Crashes;
  /** DormantUntil is until when it is dormant, if it is. */
  dormant_until?: string;
  drone?: string;
  key: Key;
  /** ResumeSeconds is for how long the key is dormant once its backend has ended; left out: not at all. */
  resume_seconds?: number;
  /** Since is when the key was acquired, or released, or when its backend fell asleep. */
  since: string;
  state: string;
  status: Status;
}

/** KeysRequest lists keys by namespace and name: those that a backend holds, that are dormant, or that rest. Each of the other fields that is given leaves out those of which it does not hold. */
export interface KeysRequest {
  /** After is the last key of the page before; its tag says nothing. */
  after?: Key;
  /** Limit is 1 to MaxPage; 0 is MaxPage. */
  limit?: number;
  /** Namespace are those of a namespace, which may be "". */
  namespace?: string;
  /** Prefix is what names begin with; Search is what they contain. Both mind upper and lower case. */
  prefix?: string;
  search?: string;
  /** States are those in one of these. */
  states?: string[];
}

/** KeysResponse is one page. It may have fewer keys than were asked for, also none, and not be the last. */
export interface KeysResponse {
  keys: KeyInfo[];
  /** Next is the After of the next page; left out of the last. */
  next?: Key;
}

/** Kind names what went wrong, for a program to branch on. */
export type Kind = "BadRequest" | "NoClusterProvided" | "NotFound" | "KeyHeld" | "KeyUnheldNoSpawnConfig" | "BackendExists" | "KeyHeldUnhealthy" | "DroneHeld" | "CannotSleep" | "TemplateChanged" | "Forbidden" | "FailedToAcquireKey" | "NoDroneAvailable" | "BackingOff" | "Overloaded" | "Unavailable" | "Internal";

/** ListTemplatesRequest lists templates by name. */
export interface ListTemplatesRequest {
  after?: string;
  /** Limit is 1 to MaxPage; 0 is MaxPage. */
  limit?: number;
}

/** ListTemplatesResponse is one page, as BackendsResponse. */
export interface ListTemplatesResponse {
  next?: string;
  templates: TemplateInfo[];
}

/** Load is how busy a drone is: its backends, and what was promised to them. */
export interface Load {
  backends?: number;
  /** CPUMillis is in thousandths of a processor. */
  cpu_millis?: number;
  memory_bytes?: number;
}

/** LogLine is one line of a backend's output ([LogSubject]). */
export interface LogLine {
  /** Line is without its end; at most MaxLine bytes. It may hold control characters. */
  line?: string;
  /** Stream is stdout, stderr or drone. */
  stream: string;
  time?: string;
}

/** NapRequest asks for a backend to be put to sleep, or to be woken. Again is no error. */
export interface NapRequest {
  backend_id: string;
}

/** NapResponse says what the backend is from now on. */
export interface NapResponse {
  asleep: boolean;
  nap: number;
}

/** Presented says that a DNS server answers with the value from now on. */
export interface Presented {
  /** Server is who does, ns-…. */
  server: string;
}

/** PutTemplateResponse says what became of a put. */
export interface PutTemplateResponse {
  /** Drones is how many there are of its cluster and pool, that are not lost. */
  drones: number;
  /** Replaced is the revision of the template of that name that there was before; the same as Revision where nothing changed. */
  replaced?: number;
  revision: number;
}

/** RegisterRequest begins a session of a drone. */
export interface RegisterRequest {
  /** Backends are all that still run on the drone, MaxNamed at most. What else the workers know of it has ended, and is ended as lost. Repeated in the same session, a registration compares what is held once more. */
  backends?: string[];
  boot_id: string;
  cluster: string;
  /** DroneTimeMS is the drone's boot-time clock when it wrote this. */
  drone_time_ms: number;
  /** GraceMS is how long the drone lets a backend that was asked to end go on before it kills it; up to MaxGrace. 0: 10 s. */
  grace_ms?: number;
  /** MachineID and BootID say which machine this is, and since which start of its system: a random id from the drone's data directory, and the kernel's boot id. Each has the form of a session. While another machine holds the drone's name, or this one did before it was started anew, the registration is refused with DroneHeld. */
  machine_id: string;
  max_backends?: number;
  /** MaxCPUMillis is in thousandths of a processor. */
  max_cpu_millis?: number;
  max_memory_bytes?: number;
  pool?: string;
  runtime?: string;
  /** Session is new for each run of the agent: 1 to 45 characters of a-z 0-9 -. */
  session: string;
  /** Sleeps says that the drone puts backends to sleep and wakes them; the workers ask no other drone to. */
  sleeps?: boolean;
  version?: string;
}

/** RegisterResponse tells the drone where its actions are (they are delivered to its DeliverSubject) and which of its backends it does not hold any more. */
export interface RegisterResponse {
  consumer: string;
  /** Deadlines are those of all that the session holds, but for what is sealed. */
  deadlines: Deadlines;
  heartbeat_interval_ms: number;
  /** Lost are those of the backends named that are no longer the drone's: their processes must be killed at once. */
  lost?: string[];
  /** Sealed are backends of the session that are not renewed any more: they keep the deadlines that they had before, and the drone starts none of them that it has not started yet. */
  sealed?: string[];
  stream: string;
  /** TemplatesRevision is as in HeartbeatResponse. */
  templates_revision?: number;
}

/** Report is a backend's new state. */
export interface Report {
  /** Address is host:port where the process listens; from waiting on. */
  address?: string;
  /** Asleep says that the backend is frozen at this moment. A drone may thaw one by itself, when in doubt: then Nap is odd and Asleep false, and the workers take it as awake, with the next nap. Asleep with an even nap there is not. */
  asleep?: boolean;
  backend_id: string;
  exit_code?: number;
  /** LastStatus is the status before terminated. */
  last_status?: Status;
  /** Message is for people: the exec error, the last words. At most MaxText bytes. */
  message?: string;
  /** Nap is the greatest that the drone has applied; 0: none yet. */
  nap?: number;
  /** ReclaimedBytes is the memory that the machine got back from it during this nap. */
  reclaimed_bytes?: number;
  /** Refused says, with status terminated, that the drone has not taken the spawn on for want of room: the workers may place the backend on another drone instead of ending it. */
  refused?: boolean;
  status: Status;
  /** By is who asked, as he calls himself. */
  termination_by?: string;
  /** Cause is there as soon as the backend was asked to end. */
  termination_cause?: string;
  termination_kind?: TerminationKind;
  termination_reason?: TerminationReason;
  /** Words say it to people. */
  termination_why?: string;
  /** Traceparent and Tracestate are those of the action that led to the state; where they are left out, the headers of the message count. What is not a valid traceparent is dropped. */
  traceparent?: string;
  tracestate?: string;
}

/** ReportRequest states what became of backends; all of it holds or nothing. */
export interface ReportRequest {
  reports: Report[];
  session: string;
}

/** RetryRequest forgives a key its failures, so that it may be started at once. Its tag is not compared. */
export interface RetryRequest {
  key: Key;
}

/** RetryResponse says how many failures were forgiven; 0 is no error. */
export interface RetryResponse {
  forgiven: number;
}

/** RevokeRequest makes connection tokens of a backend lead nowhere: those of a user (which may be "", the one of connects that name none), or one token, or both where they agree. At least one is needed. A static token lives as long as its backend. */
export interface RevokeRequest {
  backend_id: string;
  token?: string;
  user?: string;
}

/** RevokeResponse says how many tokens there were; 0 is no error. */
export interface RevokeResponse {
  revoked: number;
}

/** RouteRequest asks where a connection token leads. NotFound when nowhere: unknown, expired or revoked token, ended backend. */
export interface RouteRequest {
  /** Open asks about what is open already: nobody comes, so the backend of a dormant key is not started for it. */
  open?: boolean;
  token: string;
}

/** RouteResponse is a route. */
export interface RouteResponse {
  /** Address is host:port; "" until the backend waits for its process. */
  address?: string;
  asleep?: boolean;
  auth?: Record<string, unknown>;
  backend_id: string;
  cluster: string;
  /** Key is the backend's, for logs; nil from workers that do not say it. */
  key?: Key;
  /** Resumable says that the key outlives the backend: once it has ended, who asks for the token is led to the key's next one. */
  resumable?: boolean;
  /** SecretToken is told to the backend as x-verified-secret. */
  secret_token?: string;
  /** SleepIgnoresIdleConnections is as its connect set it: [KeepaliveRequest.SilentMS] is said of the backend. */
  sleep_ignores_idle_connections?: boolean;
  /** Sleeps says that the backend may fall asleep while the route is remembered: who forwards somebody to it whom the last keepalive did not name as connected says so at once. Asleep: it was asleep when the worker was asked, and has been woken by that. */
  sleeps?: boolean;
  status: Status;
  subdomain?: string;
  user?: string;
  /** ValidForMS is how much longer the token lives; 0 for static tokens, which live as long as their backend. */
  valid_for_ms?: number;
}

/** SleepEvent says that a backend fell asleep, or woke ([SleepEventSubject]): that the workers want it so. Nap only rises. */
export interface SleepEvent {
  backend_id: string;
  id: string;
  nap: number;
  time: string;
  type: string;
}

/** SpareState is what a drone says of its spares of one template. Counts are at most 10^9. */
export interface SpareState {
  /** Claims are the backends that got a spare, and Misses those that named the template and started cold, since the agent started. */
  claims: number;
  /** Error is why the last spare died or did not start, for people: at most MaxSpareError bytes. */
  error?: string;
  misses: number;
  ready: number;
  /** Revision is that of the template that the spares are of. */
  revision: number;
  starting: number;
  template: string;
}

/** Spawn is a backend to run. A drone refuses it in another session than Session and past the soft deadline, which is that of the session's lease when the backend was placed. */
export interface Spawn {
  deadlines?: Deadlines;
  executable?: Record<string, unknown>;
  fencing_token: number;
  key: Key;
  session: string;
  static_token?: string;
  /** Template is what the backend was asked for by, if it was: a spare of it may be claimed. Executable is the template's then. */
  template?: SpawnTemplate;
}

/** SpawnConfig says what to run when the key is not held. */
export interface SpawnConfig {
  /** Cluster may be left out where the worker has a default. */
  cluster?: string;
  /** Executable is read by the drone's runtime only. A JSON object. */
  executable?: Record<string, unknown>;
  /** ID is the backend's id; random when "". */
  id?: string;
  /** LifetimeLimitSeconds counts from scheduling; nil: no limit. */
  lifetime_limit_seconds?: number;
  /** MaxIdleSeconds counts from the last open connection; nil: no limit. */
  max_idle_seconds?: number;
  /** Origin gives the backend a host of its own, Subdomain or a random label below the cluster, all paths of which are its own; nil: as the worker says. */
  origin?: boolean;
  pool?: string;
  /** ResumeSeconds is for how long the key is dormant after the backend's end, for whatever reason but a terminate with forget: it keeps this spawn_config and its static token, and whoever visits the URL, or connects without a spawn_config, starts it again; nil: not at all. It needs a key and UseStaticToken. */
  resume_seconds?: number;
  /** SleepAfterSeconds is for how long nobody is connected before the backend is put to sleep, until somebody asks for it; nil: never. It is less than the limits. */
  sleep_after_seconds?: number;
  /** SleepIgnoresIdleConnections has the backend sleep while connections are open over which no byte passes: bytes count then, and not connections. */
  sleep_ignores_idle_connections?: boolean;
  subdomain?: string;
  /** Template is the name of a template that is run instead: exactly one of the two. Cluster and Pool are the template's then; limits that are left out are, too. */
  template?: string;
  /** UseStaticToken gives the backend one token for its whole life, and those that its key has after it, as long as that is resumed. */
  use_static_token?: boolean;
}

/** SpawnTemplate is the template that a backend was asked for by, as it was when it was placed. */
export interface SpawnTemplate {
  claim_path?: string;
  name: string;
  revision: number;
}

/** StateEvent says that a backend reached a state ([BackendEventSubject]). For one backend Number only goes up, and its ID is made of the two, so that a reader can order and deduplicate. */
export interface StateEvent {
  /** Address is host:port where the process listens; from waiting on. */
  address?: string;
  backend_id: string;
  /** DormantUntil is until when the key is dormant; the event of terminated alone says it. */
  dormant_until?: string;
  exit_code?: number;
  /** FencingToken is that of the backend's lease; left out by workers that do not say it yet. */
  fencing_token?: number;
  id?: string;
  /** LastStatus is the status before terminated. */
  last_status?: Status;
  /** Message is for people: the exec error, the last words. At most MaxText bytes. */
  message?: string;
  number: number;
  /** Resumes is the backend whose life this one's goes on; the event of scheduled alone says it. */
  resumes?: string;
  status: Status;
  /** Template is what the backend was asked for by, if it was; the event of scheduled alone says it. */
  template?: string;
  /** By is who asked, as he calls himself. */
  termination_by?: string;
  /** Cause is there as soon as the backend was asked to end. */
  termination_cause?: string;
  termination_kind?: TerminationKind;
  termination_reason?: TerminationReason;
  /** Words say it to people. */
  termination_why?: string;
  time?: string;
  type: string;
}

/** Stats is what one backend uses of its machine ([StatsSubject]), every [StatsEvery]. The fields are named as in Plane; memory is in bytes, 0 where the runtime cannot tell. */
export interface Stats {
  backend_id: string;
  /** CPUUsed and SysCPU are processor time in nanoseconds since the last message: used by the backend, and of the machine, of all its processors, busy or idle. */
  cpu_used?: number;
  mem_active?: number;
  mem_inactive?: number;
  /** MemLimit is 0 where there is none. */
  mem_limit?: number;
  mem_unevictable?: number;
  /** MemUsed is what counts against the limit, without file cache that is not in use. */
  mem_used?: number;
  sys_cpu?: number;
  time?: string;
}

/** Status is where a backend is in its life. Its value is the number of the design's section 5: statuses only go up. */
export type Status = "scheduled" | "loading" | "starting" | "waiting" | "ready" | "terminating" | "hard-terminating" | "terminated";

/** StatusRequest asks for one backend. */
export interface StatusRequest {
  backend_id?: string;
  /** Key asks for the backend that holds a key, or held it last, instead; its tag is not compared. */
  key?: Key;
}

/** Template is an executable with a name ([SubjectTemplatePut]). A connect names it instead of an executable, and drones may start spares of it ahead: instances without a key, which wait for a backend that they can be. */
export interface Template {
  /** ClaimPath is where a spare is told which backend it is from now on, by POST with a JSON object. It begins with "/" and is needed where there are spares. */
  claim_path?: string;
  /** Cluster and Pool are where its backends run and its spares wait; without a cluster it is the worker's default. */
  cluster?: string;
  /** Executable is read by the drone's runtime only. A JSON object. */
  executable: Record<string, unknown>;
  /** LifetimeLimitSeconds and MaxIdleSeconds are those of connects that name the template and set none themselves. */
  lifetime_limit_seconds?: number;
  max_idle_seconds?: number;
  /** Name has the form of a backend id. */
  name: string;
  pool?: string;
  /** Revision is the workers' to set: of one counter for all templates, which rises with each change and each delete. Given with a put, it is compared: the put is refused with TemplateChanged where the template has another one by now. */
  revision?: number;
  /** Spares is how many of them each drone of the pool keeps: 0 to MaxSpares. */
  spares?: number;
}

/** TemplateDrone is what a drone said last of a template. */
export interface TemplateDrone {
  /** Claims are the backends that got a spare, and Misses those that named the template and started cold, since the agent started. */
  claims: number;
  drone: string;
  /** Error is why the last spare died or did not start, for people: at most MaxSpareError bytes. */
  error?: string;
  misses: number;
  ready: number;
  /** Revision is that of the template that the spares are of. */
  revision: number;
  starting: number;
  template: string;
}

/** TemplateInfo is a template, and how it fares on the drones that keep spares of it. */
export interface TemplateInfo {
  changed_at: string;
  /** ClaimPath is where a spare is told which backend it is from now on, by POST with a JSON object. It begins with "/" and is needed where there are spares. */
  claim_path?: string;
  claims?: number;
  /** Cluster and Pool are where its backends run and its spares wait; without a cluster it is the worker's default. */
  cluster?: string;
  /** Drones are those that keep spares of it, MaxPage at most, those with an error first; MoreDrones says that there are more. In the answer to [SubjectTemplateGet] alone. */
  drones?: TemplateDrone[];
  /** Error is what one of the drones says of why it does not run. */
  error?: string;
  /** Executable is read by the drone's runtime only. A JSON object. */
  executable: Record<string, unknown>;
  /** LifetimeLimitSeconds and MaxIdleSeconds are those of connects that name the template and set none themselves. */
  lifetime_limit_seconds?: number;
  max_idle_seconds?: number;
  misses?: number;
  more_drones?: boolean;
  /** Name has the form of a backend id. */
  name: string;
  pool?: string;
  /** Revision is the workers' to set: of one counter for all templates, which rises with each change and each delete. Given with a put, it is compared: the put is refused with TemplateChanged where the template has another one by now. */
  revision?: number;
  /** Spares is how many of them each drone of the pool keeps: 0 to MaxSpares. */
  spares?: number;
  /** SparesReady and SparesStarting are those of all drones that are heard; Claims and Misses are counted since their agents started. */
  spares_ready?: number;
  spares_starting?: number;
}

/** TemplateRequest names a template: to [SubjectTemplateGet] and [SubjectTemplateDelete]. */
export interface TemplateRequest {
  name: string;
  /** Revision, given with a delete, is compared as that of a put. */
  revision?: number;
}

/** TemplatesRequest is how a drone asks for the templates of its cluster and pool that keep spares ([SubjectDroneTemplates]), when it hears of another revision than it has. */
export interface TemplatesRequest {
  session: string;
}

/** TemplatesResponse has all of them, MaxTemplates at most. What it does not name has no spares any more. */
export interface TemplatesResponse {
  /** Revision is that of all templates, as in HeartbeatResponse. */
  revision: number;
  templates: Template[];
}

/** Terminate ends a backend: softly (SIGTERM, grace, SIGKILL) or at once. */
export interface Terminate {
  hard?: boolean;
  reason?: TerminationReason;
}

/** TerminateRequest ends a backend; again is no error, and neither is one that has ended. */
export interface TerminateRequest {
  backend_id?: string;
  /** By is who asks, and Reason why, for whoever wants to know later: they are kept with the backend and told with its states. */
  by?: string;
  /** Forget has the key be forgotten: nothing is kept to start it again, and its static token leads nowhere once the backend has ended. Of a backend that was not the last to hold its key, there is nothing to forget. */
  forget?: boolean;
  hard?: boolean;
  /** Key names the backend that holds a key instead; its tag is not compared. Of a dormant key, which no backend holds, there is nothing to end. */
  key?: Key;
  reason?: string;
}

/** TerminationKind says how a backend was ended; "" when it ended by itself. */
export type TerminationKind = "" | "soft" | "hard";

/** TerminationReason says why a backend ended; "" when it ended by itself. */
export type TerminationReason = "" | "swept" | "external" | "key-expired" | "lost" | "startup-timeout" | "start-failed" | "internal-error";

/** TokenEvent says that connection tokens of a backend were revoked ([TokenEventSubject]): those of User, where it is set, and the one with this hash, where it is. */
export interface TokenEvent {
  backend_id: string;
  id?: string;
  time?: string;
  /** TokenSHA256 is the hash of the token in hexadecimal digits. */
  token_sha256?: string;
  type: string;
  user?: string;
}
