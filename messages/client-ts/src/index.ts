/**
 * Jetway's client: give a key, get the URL of the one process that owns it. What is asked and answered is messages/PROTOCOL.md;
 * the types of the payloads are made from the same schema as the Go client's.
 */
import { connect as dial, headers, type ConnectionOptions, type Msg, type NatsConnection } from "@nats-io/transport-node";
import type {
  BackendInfo, BackendsRequest, BackendsResponse, ConnectRequest, ConnectResponse, DrainResponse, DroneInfo, DronesResponse,
  ErrorReply, Key, Kind, LogLine, NapResponse, RevokeRequest, RevokeResponse, StateEvent, Status,
} from "./payloads.js";

export type * from "./payloads.js";

/** JetwayError is what a request was refused with, or why none answered (of the kind Unavailable). */
export class JetwayError extends Error {
  constructor(readonly kind: Kind, message: string, readonly code: number, readonly id = "", readonly backends: string[] = []) {
    super(`${kind}: ${message}`);
    this.name = "JetwayError";
  }
}

/** Ended says that a backend ended before it reached what was waited for. */
export class EndedError extends Error {
  constructor(readonly event: StateEvent) {
    super(`backend ${event.backend_id} has ended: ${event.message ?? event.termination_reason ?? "by itself"}`);
    this.name = "EndedError";
  }
}

export interface Options {
  /** How long a request waits, in milliseconds; 5000. Workers wait for 60 s at most. */
  timeout?: number;
}

const numbers: Record<Status, number> = {
  scheduled: 10, loading: 20, starting: 30, waiting: 40, ready: 50, terminating: 60, "hard-terminating": 65, terminated: 70,
};

/** connect connects to NATS and gives a client of that connection, which close() closes. `user` is whose replies arrive: "web" with deploy/nats. */
export async function connect(options: ConnectionOptions & { user?: string }): Promise<Jetway> {
  const { user, ...rest } = options;
  return new Jetway(await dial({ maxReconnectAttempts: -1, ...(user ? { inboxPrefix: `_INBOX.${user}` } : {}), ...rest }));
}

/** Jetway asks workers and follows backends over a connection of its caller's, of any of NATS's transports. */
export class Jetway {
  constructor(readonly nc: NatsConnection) {}

  close(): Promise<void> { return this.nc.close(); }

  /** The backend that holds a key: the one that runs or, where the request has a spawn_config, a new one. */
  connect(request: ConnectRequest, options?: Options): Promise<ConnectResponse> { return this.request("jetway.ctl.connect", request, options); }

  /** connect to what runs, and to nothing else. */
  join(key: Key, options?: Options): Promise<ConnectResponse> { return this.connect({ key }, options); }

  status(backend: string, options?: Options): Promise<BackendInfo> { return this.request("jetway.ctl.status", { backend_id: backend }, options); }

  statusOfKey(key: Key, options?: Options): Promise<BackendInfo> { return this.request("jetway.ctl.status", { key }, options); }

  async terminate(backend: string, hard = false, options?: Options): Promise<void> {
    await this.request("jetway.ctl.terminate", { backend_id: backend, hard }, options);
  }

  /** Puts a backend to sleep: it is frozen until somebody visits it. Again is no error; what cannot sleep is refused with CannotSleep. */
  sleep(backend: string, options?: Options): Promise<NapResponse> { return this.request("jetway.ctl.sleep", { backend_id: backend }, options); }

  wake(backend: string, options?: Options): Promise<NapResponse> { return this.request("jetway.ctl.wake", { backend_id: backend }, options); }

  async revoke(request: RevokeRequest, options?: Options): Promise<number> {
    return (await this.request<RevokeResponse>("jetway.ctl.revoke", request, options)).revoked;
  }

  async drain(drone: string, options?: Options): Promise<number> {
    return (await this.request<DrainResponse>("jetway.ctl.drain", { drone }, options)).backends;
  }

  async undrain(drone: string, options?: Options): Promise<number> {
    return (await this.request<DrainResponse>("jetway.ctl.undrain", { drone }, options)).backends;
  }

  /** Backends by id, page by page as they are taken. */
  async *backends(request: BackendsRequest = {}, options?: Options): AsyncGenerator<BackendInfo> {
    for (let after = request.after; ;) {
      const page = await this.request<BackendsResponse>("jetway.ctl.backends", { ...request, after }, options);
      yield* page.backends ?? [];
      if (!(after = page.next)) return;
    }
  }

  async *drones(options?: Options): AsyncGenerator<DroneInfo> {
    for (let after: string | undefined; ;) {
      const page = await this.request<DronesResponse>("jetway.ctl.drones", { after }, options);
      yield* page.drones ?? [];
      if (!(after = page.next)) return;
    }
  }

  /**
   * watch follows one backend from its first state to its end, in order, none twice and none left out, also across lost connections and in
   * a cluster whose servers lag: it subscribes, reads the history by direct get, asks a worker too, and goes by the number.
   */
  async *watch(backend: string, signal?: AbortSignal): AsyncGenerator<StateEvent> {
    const subject = `jetway.event.backend.${backend}`, wake = new Wake(signal);
    let last = 0, seq = 0, reads = 0, told = false;
    let held: StateEvent[] = [];
    const sub = this.nc.subscribe(subject, { callback: (err, msg) => { if (!err) { held.push(parse<StateEvent>(msg)); wake.set(); } } });
    const stop = this.onReconnect(() => { seq = 0; reads = 0; told = false; wake.set(); });
    try {
      await this.nc.flush();
      for (let first = true; ; first = false) {
        // Until it has settled the stream has the word: what came before a live event may still be on its way into it.
        let fresh: StateEvent[] = [];
        if (reads < settleReads) {
          try {
            for (let msg; (msg = await this.next("JETWAY_EVENTS", subject, seq + 1)); seq = msg.seq) fresh.push(parse<StateEvent>(msg.msg));
          } catch (err) {
            if (first) throw err;
          }
        }
        if (!told && reads >= settleReads - 2) {
          try {
            const info = await this.status(backend);
            held.push({ type: "io.jetway.backend.v1.state", id: `${backend}.${info.number}`, time: info.changed_at, ...info });
            told = true;
            reads = Math.min(reads, settleReads - 2);
          } catch (err) {
            if (!(err instanceof JetwayError) || (err.kind === "NotFound" && last > 0)) throw err;
            told = err.kind === "NotFound"; // it is yet to come
          }
        }
        if (reads >= settleReads) { fresh = fresh.concat(held); held = []; }
        for (const event of fresh.sort((a, b) => a.number - b.number)) {
          if (event.number <= last) continue;
          last = event.number;
          yield event;
          if (event.status === "terminated") return;
        }
        const settled = reads >= settleReads;
        if (held.length > 0 && settled) continue;
        if (await wake.wait(settled ? (told ? lookAgain : 3000) : Math.min(20 * 2 ** reads, 1000))) continue;
        reads = settled ? settleReads - 1 : reads + 1; // a time has passed
      }
    } finally {
      stop();
      sub.unsubscribe();
    }
  }

  /** awaitStatus watches until a backend has reached a status, such as ready; it throws EndedError where it ends before. */
  async awaitStatus(backend: string, status: Status, signal?: AbortSignal): Promise<StateEvent> {
    for await (const event of this.watch(backend, signal)) {
      if (event.number >= numbers[status] && (status === "terminated" || event.number < numbers.terminating)) return event;
      if (event.status === "terminated") throw new EndedError(event);
    }
    throw new Error("stopped");
  }

  /** logs gives a backend's output: what the stream holds, an hour at most, and with `follow` each line as it comes. */
  async *logs(backend: string, follow = false, signal?: AbortSignal): AsyncGenerator<LogLine> {
    const subject = `jetway.log.${backend}`, wake = new Wake(signal);
    // A live line only says that there is something to get: so all come from the stream, in its order, each once.
    const sub = follow ? this.nc.subscribe(subject, { callback: () => wake.set() }) : undefined;
    try {
      await this.nc.flush();
      for (let seq = 0, again = 1000; ;) {
        const before = seq;
        for (let msg; (msg = await this.next("JETWAY_LOGS", subject, seq + 1)); seq = msg.seq) yield parse<LogLine>(msg.msg);
        if (!follow) return;
        again = seq > before ? 100 : Math.min(again * 2, 5000);
        await wake.wait(again);
      }
    } finally {
      sub?.unsubscribe();
    }
  }

  /** request asks on any subject of the protocol. */
  async request<Reply>(subject: string, payload: object, options?: Options): Promise<Reply> {
    const timeout = options?.timeout ?? 5000, sent = headers();
    // A little less, so that a worker's last word still comes in time.
    sent.set("Jetway-Timeout", `${Math.max(1, Math.floor(timeout - Math.min(timeout / 10, 100)))}ms`);
    let msg: Msg;
    try {
      msg = await this.nc.request(subject, JSON.stringify(payload), { timeout, headers: sent });
    } catch (err) {
      throw new JetwayError("Unavailable", `no answer on ${subject}: ${(err as Error).message}`, 503);
    }
    const code = msg.headers?.get("Nats-Service-Error-Code");
    if (!code) return parse<Reply>(msg);
    const refused = parse<ErrorReply>(msg);
    throw new JetwayError(refused.kind, refused.message, Number(code), refused.id, refused.backends);
  }

  /** next is JetStream's direct get of the first message of a subject at or after a place. */
  private async next(stream: string, subject: string, seq: number): Promise<{ msg: Msg; seq: number } | undefined> {
    const msg = await this.nc.request(`$JS.API.DIRECT.GET.${stream}`, JSON.stringify({ seq, next_by_subj: subject }), { timeout: 5000 });
    const status = msg.headers?.code ?? 0;
    if (status === 404) return undefined;
    if (status >= 400) throw new JetwayError("Unavailable", `the stream ${stream} answers ${status} ${msg.headers?.description ?? ""}`, 503);
    return { msg, seq: Number(msg.headers?.get("Nats-Sequence")) };
  }

  private onReconnect(then: () => void): () => void {
    const status = this.nc.status() as AsyncIterable<{ type: string }> & { stop?: () => void };
    void (async () => { for await (const s of status) if (s.type === "reconnect") then(); })();
    return () => status.stop?.();
  }
}

/** The history is read again so often, after 20, 40, 80 … 1000 ms: an event may be on its way into the stream. */
const settleReads = 7;
/** So many ms after it was read last it is read once more: what passes while two servers do not hear each other does not come live. */
const lookAgain = 20_000;

function parse<T>(msg: Msg): T { return msg.json() as T; }

/** Wake is waited for until it is set, for some time, or until a signal ends it all. */
class Wake {
  private woken = false;
  private resolve: () => void = () => {};
  constructor(private readonly signal?: AbortSignal) {}

  set(): void { this.woken = true; this.resolve(); }

  /** wait says whether it was set. */
  async wait(ms?: number): Promise<boolean> {
    this.signal?.throwIfAborted();
    if (!this.woken) {
      await new Promise<void>((resolve) => {
        const timer = ms === undefined ? undefined : setTimeout(() => this.resolve(), ms);
        this.resolve = () => { clearTimeout(timer); this.signal?.removeEventListener("abort", this.resolve); resolve(); };
        this.signal?.addEventListener("abort", this.resolve);
      });
      this.signal?.throwIfAborted();
    }
    const woken = this.woken;
    this.woken = false;
    return woken;
  }
}
