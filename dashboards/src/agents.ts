// The agents themselves: can what they say be trusted, and what do they cost?
import { anyOf, dashboard, labelValues, line, section } from './frame.js';
import { FEW, graph, NONE, stack, stat, table, type Limit } from './panels.js';
import { classicQuantile, GRAPH, NOW, ofAgents, orZero, quantile, rate } from './promql.js';

const instances = anyOf(labelValues('instance', 'Agent', 'podsonar_build_info{cluster=~"$cluster"}', 'instance'));

const HERE = 'cluster=~"$cluster",instance=~"$instance"';
const LATE: Limit[] = [['green', 0], ['yellow', 0.05], ['orange', 0.2], ['red', 1]];
const OLD: Limit[] = [['green', 0], ['yellow', 60], ['red', 300]];

const now = section(
  'Now',
  line(
    4,
    stat(
      { title: 'Agents', description: 'Agents that Prometheus scrapes.', unit: 'short' },
      `count(podsonar_build_info{${HERE}})`,
    ),
    stat(
      {
        title: 'Scrapes fail',
        description: 'Agents that Prometheus knows and cannot scrape. Their nodes may be gone, or the network between.',
        unit: 'short',
        limits: NONE,
      },
      orZero(`count(up{${HERE}} == 0 and on (cluster, job) group by (cluster, job) (podsonar_build_info{cluster=~"$cluster"}))`),
    ),
    stat(
      {
        title: 'Agents at fault',
        description: 'Agents that are starved, deaf, or whose clock was set: they blame nobody meanwhile.',
        unit: 'short',
        limits: FEW,
      },
      orZero(`count(max by (cluster, instance) (podsonar_agent_fault{${HERE}}) > 0)`),
    ),
    stat(
      {
        title: 'Schedule lag, p99',
        description: 'How late probes leave, of the last 5 minutes. It tells of a starved agent; it is in no round trip.',
        unit: 's',
        limits: LATE,
      },
      classicQuantile(0.99, 'podsonar_schedule_lag_seconds', HERE, '', NOW),
    ),
    stat(
      {
        title: 'Oldest watch',
        description: 'How long the longest broken watch of the Kubernetes API is broken. 0 while all are whole; no data without Kubernetes.',
        unit: 's',
        limits: OLD,
      },
      `max(podsonar_watch_age_seconds{${HERE}})`,
    ),
    stat(
      {
        title: 'Wrong configurations',
        description: 'Agents whose last reading of their configuration failed: the one before is in force.',
        unit: 'short',
        limits: NONE,
      },
      orZero(`count(podsonar_config_last_reload_successful{${HERE}} == 0)`),
    ),
  ),
);

const trust = section(
  'Can they be trusted?',
  line(
    9,
    graph(
      {
        title: 'Agents at fault, by reason',
        description: 'control: its own loopback is lossy or slow. lag, throttled, stalled: it is starved of CPU. drops: it reads too slowly. clock: the wall clock was set.',
        unit: 'short',
      },
      [`sum by (reason) (podsonar_agent_fault{${HERE}})`, '{{reason}}'],
    ),
    graph(
      { title: 'Schedule lag by agent, p99', description: 'How late probes leave. Above a second probes are skipped.', unit: 's' },
      [classicQuantile(0.99, 'podsonar_schedule_lag_seconds', HERE, 'instance', GRAPH), '{{instance}}'],
    ),
  ),
  line(
    9,
    graph(
      {
        title: 'Packets dropped for full buffers',
        description: 'By the kernel, since a socket was not read in time. What could have been answered then is unknown, not lost.',
        unit: 'pps',
      },
      [rate('podsonar_socket_drops_total', HERE, 'instance', GRAPH), '{{instance}}'],
      [rate('podsonar_inbound_drops_total', HERE, 'instance', GRAPH), '{{instance}} (of other agents\' probes)'],
    ),
    stack(
      {
        title: 'Who stamped the packets',
        description: 'software and sched are the kernel\'s; user means that the kernel gave none, and such a round trip is not observed.',
        unit: 'pps',
      },
      [rate('podsonar_stamp_source_total', HERE, 'direction, stamp', GRAPH), '{{direction}} {{stamp}}'],
    ),
  ),
  line(
    9,
    graph(
      {
        title: 'CPU throttling and stalls',
        description: 'Seconds a second for which a CPU quota stopped the agent, and for which it did not run though it should have.',
        unit: 's',
      },
      [rate('podsonar_cpu_throttled_seconds_total', HERE, 'instance', GRAPH), 'throttled {{instance}}'],
      [rate('podsonar_stall_seconds_total', HERE, 'instance', GRAPH), 'stalled {{instance}}'],
    ),
    graph(
      {
        title: 'Clock steps',
        description: 'Times that the wall clock was set or the machine slept. Probes in flight then are not observed.',
        unit: 'cps',
      },
      [rate('podsonar_clock_jumps_total', HERE, 'instance', GRAPH), '{{instance}}'],
    ),
  ),
);

const probing = section(
  'What they do',
  line(
    9,
    graph(
      { title: 'Probes that fall due', description: 'A second, by the schedule. It stays below probes.max_pps.', unit: 'pps' },
      [`sum by (instance) (podsonar_scheduled_probes_per_second{${HERE}})`, '{{instance}}'],
    ),
    stack(
      {
        title: 'Probes without a verdict',
        description: 'skipped: too far behind the schedule. not_sent: the kernel refused. unknown: nothing can be said. discarded: the target was going away. intercepted: something on the host answers for everybody.',
        unit: 'pps',
      },
      [rate('podsonar_probes_void_total', HERE, 'reason', GRAPH), '{{reason}}'],
    ),
  ),
  line(
    9,
    table(
      {
        title: 'How they may probe',
        description: 'raw: as meant. datagram: ICMP without NET_RAW, measured alike. connect: full handshakes, which applications see. none: not at all, as IPv6 on a host that has none.',
        unit: 'short',
      },
      [
        { from: 'protocol', title: 'Protocol' },
        { from: 'family', title: 'Family' },
        { from: 'mode', title: 'Mode' },
        { from: 'Value', title: 'Agents' },
      ],
      [`count by (protocol, family, mode) (podsonar_probe_mode{${HERE}})`],
      'Agents',
    ),
    graph(
      {
        title: 'In flight, and held',
        description: 'Probes that wait for an answer, and losses that wait until it is clear that their target is still there.',
        unit: 'short',
      },
      [`sum(podsonar_probes_in_flight{${HERE}})`, 'in flight'],
      [`sum(podsonar_held_losses{${HERE}})`, 'held'],
    ),
  ),
);

const knowing = section(
  'What they know',
  line(
    9,
    graph(
      {
        title: 'Age of watches',
        description: 'How long a watch of the Kubernetes API is broken. The last good state stays in use. No data without Kubernetes.',
        unit: 's',
      },
      [`max by (instance, watch) (podsonar_watch_age_seconds{${HERE}}) > 0 or max by (watch) (podsonar_watch_age_seconds{${HERE}})`, '{{instance}} {{watch}}'],
    ),
    graph(
      {
        title: 'Failures of watches',
        description: 'By why. Some expired are usual. No data without Kubernetes.',
        unit: 'cps',
      },
      [rate('podsonar_watch_failures_total', HERE, 'watch, reason', GRAPH), '{{watch}} {{reason}}'],
    ),
  ),
  line(
    9,
    stack(
      {
        title: 'Peers',
        description: 'told: its list of pods is here. untold: not yet. not_chosen: others probe it.',
        unit: 'short',
      },
      [`sum by (state) (podsonar_peers{${HERE}})`, '{{state}}'],
    ),
    stack(
      {
        title: 'Lists of pods fetched',
        description: 'By what became of the fetch. ok and not_modified are right; refused is an agent that does not know the caller.',
        unit: 'reqps',
      },
      [rate('podsonar_exchange_total', HERE, 'result', GRAPH), '{{result}}'],
    ),
  ),
  line(
    9,
    graph(
      {
        title: 'Fetching a list, p99',
        description: 'From connecting to a peer to the headers of its answer, by the agent\'s own clock.',
        unit: 's',
      },
      [quantile(0.99, 'podsonar_http_duration_seconds', HERE, 'destination_zone', GRAPH), 'to {{destination_zone}}'],
    ),
    stack(
      {
        title: 'Lists of pods served',
        description: 'forbidden: the caller is no known agent. turned_away: too many connections.',
        unit: 'reqps',
      },
      [rate('podsonar_exchange_served_total', HERE, 'result', GRAPH), '{{result}}'],
    ),
  ),
  line(
    8,
    graph(
      {
        title: 'Not probed, on purpose',
        description: 'Pods beyond pods.max, addresses that two nodes claim, names without an address.',
        unit: 'short',
      },
      [`sum(podsonar_pods_left_out{${HERE}})`, 'beyond pods.max'],
      [`sum(podsonar_contested_addresses{${HERE}})`, 'claimed by two nodes'],
      [`sum(podsonar_unresolved_names{${HERE}})`, 'names without an address'],
    ),
    graph(
      {
        title: 'Refused in peers\' lists, and probes not believed',
        description: 'Pods and addresses that peers told and that are not probed, and echo requests in an agent\'s name that do not count. Some unknown_epoch is usual when an agent has just started.',
        unit: 'cps',
      },
      [rate('podsonar_exchange_refusals_total', HERE, 'reason', GRAPH), 'in lists: {{reason}}'],
      [rate('podsonar_inbound_rejected_total', HERE, 'reason', GRAPH), 'probes: {{reason}}'],
    ),
  ),
);

const cost = section(
  'What they cost',
  line(
    9,
    graph(
      { title: 'CPU', description: 'Cores, by agent.', unit: 'short' },
      [ofAgents(`rate(process_cpu_seconds_total{${HERE}}[${GRAPH}])`, HERE), '{{instance}}'],
    ),
    graph(
      { title: 'Memory', description: 'Resident, by agent.', unit: 'bytes' },
      [ofAgents(`process_resident_memory_bytes{${HERE}}`, HERE), '{{instance}}'],
    ),
  ),
  line(
    9,
    graph(
      {
        title: 'Samples of a scrape',
        description: 'What Prometheus stores of an agent each time. series.max bounds it.',
        unit: 'short',
      },
      [ofAgents(`scrape_samples_scraped{${HERE}}`, HERE), '{{instance}}'],
    ),
    graph(
      {
        title: 'Where series.max bites',
        description: 'Nodes that are shown together as the destination "other", and targets in trouble that are not named.',
        unit: 'short',
      },
      [`sum by (instance) (podsonar_folded_destinations{${HERE}})`, 'folded {{instance}}'],
      [`sum by (instance) (podsonar_unhealthy_targets_overflow{${HERE}})`, 'not named {{instance}}'],
    ),
  ),
  line(
    9,
    graph(
      {
        title: 'Open files, of those allowed',
        description: 'Share of the limit.',
        unit: 'percentunit',
      },
      [ofAgents(`process_open_fds{${HERE}} / process_max_fds{${HERE}}`, HERE), '{{instance}}'],
    ),
    graph(
      {
        title: 'Scrapes refused',
        description: 'Because too many were in progress.',
        unit: 'reqps',
      },
      [rate('podsonar_scrapes_refused_total', HERE, 'instance', GRAPH), '{{instance}}'],
    ),
  ),
  line(
    8,
    table(
      { title: 'Versions', description: 'Two at a time are usual during an update; agents more than one release apart do not exchange lists.', unit: 'short' },
      [
        { from: 'version', title: 'Version' },
        { from: 'Value', title: 'Agents' },
      ],
      [`count by (version) (podsonar_build_info{${HERE}})`],
      'Agents',
    ),
    table(
      { title: 'Latest starts', description: 'The 20 agents that started last. Many within minutes are an update, or crashes.', unit: 'short' },
      [
        { from: 'instance', title: 'Agent' },
        { from: 'Value', title: 'Runs for', unit: 's' },
      ],
      [`bottomk(20, ${ofAgents(`time() - process_start_time_seconds{${HERE}}`, HERE)})`],
      'Runs for',
    ),
  ),
);

export const agents = dashboard(
  'agents',
  'agents',
  'Whether what the agents say can be trusted, what they know, and what they cost.',
  [instances],
  [now, trust, probing, knowing, cost],
);
