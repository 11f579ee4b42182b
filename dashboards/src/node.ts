// One node: does it lose what it sends, or what it receives, and from or to whom?
import { dashboard, families, line, oneNode, section } from './frame.js';
import { graph, LOSS, NONE, stat, table, TO_NODE } from './panels.js';
import { classicQuantile, GRAPH, loss, lossOnTheWay, NOW, orZero, quantile, rate } from './promql.js';

const HERE = 'cluster=~"$cluster",family=~"$family"';
const OUT = `${HERE},source=~"$node"`;
const IN = `${HERE},destination=~"$node"`;
const AGENTS = 'kind="agent"';
const RTT = 'podsonar_rtt_seconds';

const now = section(
  'Now',
  line(
    4,
    stat(
      {
        title: 'Loses what it sends',
        description: 'Share of this node\'s probes that did not arrive at the other agents, as those count them, over the last 5 minutes.',
        unit: 'percentunit',
        limits: LOSS,
      },
      lossOnTheWay(OUT, '', NOW),
    ),
    stat(
      {
        title: 'Loses what it receives',
        description: 'Share of the other agents\' probes that did not arrive at this node, as it counts them, over the last 5 minutes.',
        unit: 'percentunit',
        limits: LOSS,
      },
      lossOnTheWay(IN, '', NOW),
    ),
    stat(
      {
        title: 'Peers that do not hear it',
        description: 'Agents at which nothing arrives from this node any more. Silence is no loss in the two numbers to the left: it is told when it is over.',
        unit: 'short',
        limits: NONE,
      },
      orZero(`count(podsonar_inbound_silent{${OUT}})`),
    ),
    stat(
      {
        title: 'Peers that it does not hear',
        description: 'Agents from which nothing arrives at this node any more.',
        unit: 'short',
        limits: NONE,
      },
      orZero(`count(podsonar_inbound_silent{${IN}})`),
    ),
    stat(
      { title: 'Round trip to peers, p99', description: 'One of a hundred round trips to other agents took longer in the last 5 minutes.', unit: 's' },
      quantile(0.99, RTT, `${OUT},${AGENTS}`, '', NOW),
    ),
    stat(
      {
        title: 'Targets in trouble here',
        description: 'Pods and addresses of this node that at least one agent calls in trouble.',
        unit: 'short',
        limits: NONE,
      },
      orZero(`count(group by (destination_ip) (podsonar_unhealthy_target{${IN}}))`),
    ),
  ),
);

const direction = section(
  'By direction',
  line(
    9,
    graph(
      {
        title: 'One way: out and in',
        description: 'What the node sends and others do not get, against what others send and it does not get. Only one of them raised: that direction is at fault, a cable, a queue or a port of a switch. From probes between agents, counted by their receivers.',
        unit: 'percentunit',
      },
      [lossOnTheWay(OUT, '', GRAPH), 'out: lost of what it sends'],
      [lossOnTheWay(IN, '', GRAPH), 'in: lost of what it should receive'],
    ),
    graph(
      {
        title: 'Round trips: from and to',
        description: 'Loss of whole round trips between agents. Both lines rise whichever way is bad; the panel to the left tells which.',
        unit: 'percentunit',
      },
      [loss(`${OUT},${AGENTS}`, '', GRAPH), 'asked by this node'],
      [loss(`${IN},${AGENTS}`, '', GRAPH), 'asked by others'],
    ),
  ),
  line(
    9,
    graph(
      { title: 'Out, by peer', description: 'Lost on the way from this node to each other.', unit: 'percentunit' },
      [lossOnTheWay(OUT, 'destination', GRAPH), 'to {{destination}}'],
    ),
    graph(
      { title: 'In, by peer', description: 'Lost on the way from each other node to this one.', unit: 'percentunit' },
      [lossOnTheWay(IN, 'source', GRAPH), 'from {{source}}'],
    ),
  ),
);

/** The same label for the other end, whichever it is. */
const peer = (expression: string, label: string) => `label_replace(${expression}, "peer", "$1", "${label}", "(.*)")`;
const peerOut = (expression: string) => `sum by (peer) (${peer(expression, 'destination')})`;
const peerIn = (expression: string) => `sum by (peer) (${peer(expression, 'source')})`;

const peers = section(
  'Peers',
  line(
    10,
    table(
      {
        title: 'Peers',
        description: 'Each other agent: what is lost on the way there and back over the last 5 minutes, and how long the way is (the fastest tenth of the last minute).',
        unit: 'short',
      },
      [
        { from: 'peer', title: 'Peer', link: TO_NODE },
        { from: 'Value #A', title: 'Lost out', unit: 'percentunit', limits: LOSS },
        { from: 'Value #B', title: 'Lost in', unit: 'percentunit', limits: LOSS },
        { from: 'Value #C', title: 'Lost round trips', unit: 'percentunit', limits: LOSS },
        { from: 'Value #D', title: 'Floor', unit: 's' },
        { from: 'Value #E', title: 'p99', unit: 's' },
      ],
      [
        peerOut(lossOnTheWay(OUT, 'destination', NOW)),
        peerIn(lossOnTheWay(IN, 'source', NOW)),
        peerOut(loss(`${OUT},${AGENTS}`, 'destination', NOW)),
        peerOut(`max by (destination) (podsonar_rtt_floor_seconds{${OUT},${AGENTS}})`),
        peerOut(quantile(0.99, RTT, `${OUT},${AGENTS}`, 'destination', NOW)),
      ],
      'Lost out',
    ),
  ),
);

const latency = section(
  'Round trips',
  line(
    9,
    graph(
      {
        title: 'Floor, by peer',
        description: 'The fastest tenth of a minute\'s round trips: it moves when the way is another one, not when queues fill.',
        unit: 's',
      },
      [`max by (destination) (podsonar_rtt_floor_seconds{${OUT},${AGENTS}})`, 'to {{destination}}'],
    ),
    graph(
      {
        title: 'p99, by peer',
        description: 'Tails. Empty where agents keep round trips by zone only (metrics.detail).',
        unit: 's',
      },
      [quantile(0.99, RTT, `${OUT},${AGENTS}`, 'destination', GRAPH), 'to {{destination}}'],
    ),
  ),
);

const shape = section(
  'How losses come together',
  line(
    9,
    graph(
      {
        title: 'Episodes of loss, by peer',
        description: 'Runs of losses that began, a second. Many short ones are a bad link, few long ones an outage.',
        unit: 'cps',
      },
      [rate('podsonar_loss_episodes_total', `${OUT},${AGENTS}`, 'destination', GRAPH), 'to {{destination}}'],
    ),
    graph(
      {
        title: 'Length of runs',
        description: 'How many probes in a row were lost, of runs that ended.',
        unit: 'short',
      },
      [classicQuantile(0.5, 'podsonar_loss_burst_probes', `${OUT},${AGENTS}`, '', GRAPH), 'median'],
      [classicQuantile(0.99, 'podsonar_loss_burst_probes', `${OUT},${AGENTS}`, '', GRAPH), 'p99'],
    ),
  ),
  line(
    8,
    graph(
      {
        title: 'Outages on the way here, and unknown gaps',
        description: 'Outages: gaps that are known only when they are over, so they are not counted as loss. Unknown: gaps while this host itself dropped packets.',
        unit: 'cps',
      },
      [rate('podsonar_inbound_outages_total', IN, 'source', GRAPH), 'outages from {{source}}'],
      [rate('podsonar_inbound_unknown_total', IN, 'source', GRAPH), 'unknown from {{source}}'],
    ),
    graph(
      {
        title: 'Answers too late, or twice',
        description: 'Late: after the timeout, so their probes stay lost. way_back: a SYN-ACK that was sent again, so the first was lost on its way back. Twice: something on the way copies packets.',
        unit: 'cps',
      },
      [rate('podsonar_late_replies_total', OUT, 'kind, hint', GRAPH), 'late {{kind}} ({{hint}})'],
      [rate('podsonar_duplicate_replies_total', OUT, 'kind', GRAPH), 'twice {{kind}}'],
    ),
  ),
);

const size = section(
  'Large packets and single flows',
  line(
    8,
    graph(
      {
        title: 'Largest packet that passes, by peer',
        description: 'With its IP header; over IPv4 on the way there only.',
        unit: 'bytes',
      },
      [`min by (destination) (podsonar_path_mtu_bytes{${OUT}})`, 'to {{destination}}'],
    ),
    graph(
      {
        title: 'Black holes and dead flows',
        description: 'Addresses to which large packets vanish while small ones pass, and source ports that get no answer while others do. Nothing is the normal state.',
        unit: 'short',
      },
      [`sum by (destination) (podsonar_mtu_blackholed{${OUT}})`, 'black hole to {{destination}}'],
      [`sum by (destination) (podsonar_blackholed_flows{${OUT}})`, 'dead flows to {{destination}}'],
    ),
  ),
);

export const node = dashboard(
  'node',
  'node',
  'One node: what it loses of what it sends and of what it receives, to and from whom, and how losses come together.',
  [oneNode, families],
  [now, direction, peers, latency, shape, size],
);
