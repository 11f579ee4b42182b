// Where is the network bad? From zone pairs to node pairs, with what is known to be in trouble in between.
import { choice, dashboard, families, line, protocols, section, zones } from './frame.js';
import { ALL, FEW, graph, LOSS, matrix, NONE, stat, table, TO_NODE } from './panels.js';
import { GRAPH, loss, namedZones, NOW, orZero, quantile, rate, share } from './promql.js';

/** What the user chose to look at; zones apart, since zone pairs are always shown all. */
const ALL_ZONES = 'cluster=~"$cluster",kind=~"$kind",protocol=~"$protocol",family=~"$family"';
const PAIRS = `${ALL_ZONES},source_zone=~"$zone",destination_zone=~"$zone"`;
const RTT = 'podsonar_rtt_seconds';

/** More rows and columns than this nobody reads, and no browser draws in time. */
const MOST_NODES = 50;

/** An expression that gives nothing when the chosen zones have too many nodes for a matrix. */
function ifFew(expression: string): string {
  const nodes = `count(group by (source) (podsonar_build_info{cluster=~"$cluster",source_zone=~"$zone"}))`;
  return `(${expression})\nand on ()\n${nodes} <= ${MOST_NODES}`;
}

const ZONE_PAIR = 'source_zone, destination_zone';
const NODE_PAIR = 'source, destination';
const ZONES = '{{source_zone}} → {{destination_zone}}';
const ANSWERED = 'result=~"reply|reset|listener"';

const kinds = {
  ...choice('kind', 'Probed', [['Agents', 'agent'], ['Pods', 'pod'], ['Node addresses', 'node']]),
  includeAll: false,
  multi: false,
  current: { text: 'Agents', value: 'agent' },
};

const now = section(
  'Now',
  line(
    4,
    stat(
      {
        title: 'Availability',
        description: 'Probes that the network answered, of all in the last 5 minutes. A closed port that resets and an application that does not accept count as answered: the network was there.',
        unit: 'percentunit',
        limits: ALL,
      },
      share('podsonar_probes_total', ANSWERED, ALL_ZONES, '', NOW),
    ),
    stat(
      {
        title: 'Worst zone pair',
        description: 'Loss of the zone pair that loses most, over the last 5 minutes. The table below says which.',
        unit: 'percentunit',
        limits: LOSS,
      },
      `max(${loss(ALL_ZONES, ZONE_PAIR, NOW)})`,
    ),
    stat(
      {
        title: 'Slowest zone pair, p99',
        description: 'The highest 99th percentile of round trips among zone pairs, over the last 5 minutes.',
        unit: 's',
      },
      `max(${quantile(0.99, RTT, ALL_ZONES, ZONE_PAIR, NOW)})`,
    ),
    stat(
      {
        title: 'Targets in trouble',
        description: 'Agents, pods, nodes and names that at least one agent calls in trouble now. Each agent names 20 at most.',
        unit: 'short',
        limits: NONE,
      },
      orZero('count(group by (destination, destination_ip) (podsonar_unhealthy_target{cluster=~"$cluster"}))'),
    ),
    stat(
      {
        title: 'Faults beyond loss',
        description: 'Paths on which a peer fell silent, large packets vanish, or single flows are dead.',
        unit: 'short',
        limits: NONE,
      },
      'sum(podsonar_edges_in_fault{cluster=~"$cluster"})',
    ),
    stat(
      {
        title: 'Agents at fault',
        description: 'Agents that cannot be trusted just now: starved, deaf, or with a clock that was set. What they report is no verdict on the network. See the dashboard of the agents.',
        unit: 'short',
        limits: FEW,
      },
      'count(max by (cluster, instance) (podsonar_agent_fault{cluster=~"$cluster"}) > 0) or vector(0)',
    ),
  ),
);

const zonePairs = section(
  'Between zones',
  line(
    7,
    matrix(
      {
        title: 'Loss, zone to zone',
        description: 'Share of probes lost or unreachable over the last 5 minutes, from the zone of the row to that of the column.',
        unit: 'percentunit',
        limits: LOSS,
      },
      ['source_zone', 'destination_zone'],
      namedZones(loss(ALL_ZONES, ZONE_PAIR, NOW)),
    ),
    matrix(
      {
        title: 'Round trip, zone to zone, median',
        description: 'Half of the round trips of the last 5 minutes took less, by the stamps of the kernel. The deeper the blue, the slower.',
        unit: 's',
      },
      ['source_zone', 'destination_zone'],
      namedZones(`(${quantile(0.5, RTT, ALL_ZONES, ZONE_PAIR, NOW)})`),
    ),
    matrix(
      {
        title: 'Round trip, zone to zone, p99',
        description: 'One of a hundred round trips of the last 5 minutes took longer.',
        unit: 's',
      },
      ['source_zone', 'destination_zone'],
      namedZones(`(${quantile(0.99, RTT, ALL_ZONES, ZONE_PAIR, NOW)})`),
    ),
  ),
);

const faults = section(
  'Active faults',
  line(
    9,
    table(
      {
        title: 'Targets in trouble',
        description: 'What agents call in trouble now, and how many agents say so: one alone may have the fault itself, all of them together mean the target or its node. States are explained under "podsonar_targets" in docs/metrics.md.',
        unit: 'short',
      },
      [
        { from: 'destination', title: 'Node or target', link: TO_NODE },
        { from: 'destination_namespace', title: 'Namespace' },
        { from: 'destination_pod', title: 'Pod' },
        { from: 'destination_ip', title: 'Address' },
        { from: 'protocol', title: 'Protocol' },
        { from: 'state', title: 'State' },
        { from: 'Value', title: 'Agents', limits: NONE },
      ],
      [
        'sum by (destination, destination_namespace, destination_pod, destination_ip, protocol, state) (podsonar_unhealthy_target{cluster=~"$cluster"})',
      ],
      'Agents',
    ),
    table(
      {
        title: 'Paths with a fault beyond loss',
        description: 'Inbound silence: nothing arrives from that node any more. Black hole: large packets vanish while small ones pass (MTU). Dead flows: some source ports get no answer while others do (one of several ways is dead).',
        unit: 'short',
      },
      [
        { from: 'source', title: 'From', link: TO_NODE },
        { from: 'destination', title: 'To', link: TO_NODE },
        { from: 'family', title: 'Family' },
        { from: 'Value #A', title: 'Silent', limits: NONE },
        { from: 'Value #B', title: 'MTU black holes', limits: NONE },
        { from: 'Value #C', title: 'Dead flows', limits: NONE },
      ],
      ['podsonar_inbound_silent', 'podsonar_mtu_blackholed', 'podsonar_blackholed_flows'].map(
        (metric) => `sum by (source, destination, family) (${metric}{cluster=~"$cluster"})`,
      ),
      'From',
    ),
  ),
);

const over = section(
  'Over time',
  line(
    9,
    graph(
      { title: 'Loss by zone pair', description: 'Share of probes lost or unreachable.', unit: 'percentunit' },
      [loss(PAIRS, ZONE_PAIR, GRAPH), ZONES],
    ),
    graph(
      {
        title: 'Availability by zone pair',
        description: 'The service level: probes that the network answered, of all.',
        unit: 'percentunit',
      },
      [share('podsonar_probes_total', ANSWERED, PAIRS, ZONE_PAIR, GRAPH), ZONES],
    ),
  ),
  line(
    9,
    graph(
      { title: 'Round trip by zone pair, p99', description: 'Tails: queues, retries below IP, busy hosts.', unit: 's' },
      [quantile(0.99, RTT, PAIRS, ZONE_PAIR, GRAPH), ZONES],
    ),
    graph(
      { title: 'Round trip by zone pair, median', description: 'A median that moves is another way, or a longer one.', unit: 's' },
      [quantile(0.5, RTT, PAIRS, ZONE_PAIR, GRAPH), ZONES],
    ),
  ),
);

const nodePairs = section(
  'Between nodes',
  line(
    12,
    matrix(
      {
        title: 'Loss, node to node',
        description: `Over the last 5 minutes, from the node of the row to that of the column. A red row: the node loses what it sends, or what comes back. A red column: the node is hard to reach. Up to ${MOST_NODES} nodes; choose one zone above where there are more.`,
        unit: 'percentunit',
        limits: LOSS,
      },
      ['source', 'destination'],
      ifFew(loss(PAIRS, NODE_PAIR, NOW)),
      TO_NODE,
    ),
    matrix(
      {
        title: 'Round trip, node to node, p99',
        description: `Over the last 5 minutes. Up to ${MOST_NODES} nodes; choose one zone above where there are more. Empty where agents keep round trips by zone only (metrics.detail).`,
        unit: 's',
      },
      ['source', 'destination'],
      ifFew(quantile(0.99, RTT, PAIRS, NODE_PAIR, NOW)),
      TO_NODE,
    ),
  ),
  line(
    10,
    table(
      {
        title: 'The 20 pairs that lose most',
        description: 'Over the last 5 minutes, of all pairs of the chosen zones, however many there are. Pairs that lose nothing are left out.',
        unit: 'short',
      },
      [
        { from: 'source', title: 'From', link: TO_NODE },
        { from: 'destination', title: 'To', link: TO_NODE },
        { from: 'Value', title: 'Loss, node to node', unit: 'percentunit', limits: LOSS },
      ],
      [`topk(20, ${loss(PAIRS, NODE_PAIR, NOW)} > 0)`],
      'Loss, node to node',
    ),
    table(
      {
        title: 'The 20 slowest pairs',
        description: 'By the fastest tenth of the last minute\'s ICMP round trips: the length of the way, without what queues add. So this is how far, not how busy.',
        unit: 'short',
      },
      [
        { from: 'source', title: 'From', link: TO_NODE },
        { from: 'destination', title: 'To', link: TO_NODE },
        { from: 'Value', title: 'Round trip, floor', unit: 's' },
      ],
      [
        'topk(20, max by (source, destination) (podsonar_rtt_floor_seconds{cluster=~"$cluster",kind="agent",family=~"$family",source_zone=~"$zone",destination_zone=~"$zone"}))',
      ],
      'Round trip, floor',
    ),
  ),
);

const amount = section(
  'What this rests on',
  line(
    7,
    graph(
      {
        title: 'Probes by zone pair',
        description: 'Results a second. Where this falls to nothing, the panels above say nothing.',
        unit: 'pps',
      },
      [rate('podsonar_probes_total', PAIRS, ZONE_PAIR, GRAPH), ZONES],
    ),
    graph(
      {
        title: 'Probes without a verdict',
        description: 'Due probes that say nothing about the network, by why: they are no loss. discarded is usual while pods come and go.',
        unit: 'pps',
      },
      [rate('podsonar_probes_void_total', 'cluster=~"$cluster",kind=~"$kind",protocol=~"$protocol",family=~"$family"', 'reason', GRAPH), '{{reason}}'],
    ),
  ),
);

export const overview = dashboard(
  'overview',
  'overview',
  'Where the pod network loses or delays packets: zone pairs, node pairs, and what is in trouble now.',
  [zones, kinds, protocols, families],
  [now, zonePairs, faults, over, nodePairs, amount],
);
