// The tab of one stream on the page of its DAG: its state, its newest batches and changes.

import {
  Banner,
  Box,
  Flex,
  HStack,
  Heading,
  Problems,
  StateBadge,
  Text,
  asAge,
  asTime,
  h,
  useServerData,
} from "./parts.js";

const { ChakraUI } = globalThis;
const { Table } = ChakraUI;

const Listed = ({ title, headings, rows, none }) =>
  h(
    Box,
    null,
    h(Heading, { size: "sm", mb: 2 }, title),
    rows.length === 0 && h(Text, { color: "fg.muted", fontSize: "sm" }, none),
    rows.length > 0 &&
      h(
        Table.Root,
        { size: "sm", "aria-label": title },
        h(
          Table.Header,
          null,
          h(
            Table.Row,
            null,
            headings.map((name) => h(Table.ColumnHeader, { key: name }, name)),
          ),
        ),
        h(
          Table.Body,
          null,
          rows.map(([key, cells]) =>
            h(
              Table.Row,
              { key },
              cells.map((cell, number) => h(Table.Cell, { key: number }, cell)),
            ),
          ),
        ),
      ),
  );

const cellsOfBatch = (batch) => [
  batch.number,
  batch.status,
  asTime(batch.started),
  asTime(batch.ended),
  batch.rows,
  batch.total ?? "",
];

/** Write what a change did to one key of the configuration. */
const asText = ({ key, action, old, new: now }) => {
  const [before, after] = [old, now].map((value) => JSON.stringify(value));
  if (action === "changed") return `${key}: ${before} → ${after}`;
  return action === "added" ? `+ ${key}: ${after}` : `- ${key}: ${before}`;
};

const cellsOfChange = (change) => [
  change.revision,
  asTime(change.at),
  change.who,
  change.how,
  change.action,
  (change.action === "added" ? [] : change.keys).map((key) =>
    h(Text, { key: key.key, fontSize: "xs", wordBreak: "break-word" }, asText(key)),
  ),
];

const Fact = ({ name, children }) =>
  h(
    Box,
    null,
    h(Text, { color: "fg.muted", fontSize: "xs" }, name),
    h(Text, { fontSize: "sm" }, children),
  );

function Details({ data }) {
  const { stream } = data;
  const { good_batch: good } = stream;
  return [
    h(Problems, { key: "problems", platform: data }),
    data.unread &&
      !data.outage &&
      h(Banner, { key: "unread", title: "Not all can be shown" }, data.unread),
    h(
      HStack,
      { key: "state", gap: 3 },
      h(Heading, { size: "md" }, stream.stream_key),
      h(StateBadge, { state: stream.state, colour: stream.colour }),
      h(Text, { fontSize: "sm" }, stream.reason),
    ),
    h(
      HStack,
      { key: "facts", gap: 8, wrap: "wrap", alignItems: "flex-start" },
      h(Fact, { name: "Platform" }, data.platform),
      h(
        Fact,
        { name: "Last good batch" },
        good ? `${asTime(good.ended)} (${asAge(good.ended, data.at)})` : "none",
      ),
      h(Fact, { name: "Its rows" }, good?.rows ?? ""),
      h(Fact, { name: "Schedule" }, stream.schedule),
      h(Fact, { name: "Revision" }, stream.revision),
    ),
    h(Listed, {
      key: "batches",
      title: "Newest batches",
      headings: ["batch", "status", "started", "ended", "rows", "in the source"],
      rows: data.batches.map((batch) => [batch.number, cellsOfBatch(batch)]),
      none: "No job of this stream has written a batch.",
    }),
    h(Listed, {
      key: "changes",
      title: "Newest changes",
      headings: ["revision", "time", "who", "how", "action", "what"],
      rows: data.changes.map((change) => [change.revision, cellsOfChange(change)]),
      none: "No change of its row is on record.",
    }),
  ];
}

// The key keeps the data of one DAG from the page of another.
export const Stream = ({ dagId }) => h(StreamOfDag, { key: dagId, dagId });

function StreamOfDag({ dagId }) {
  const { data, error, isLoading } = useServerData(`streams/${encodeURIComponent(dagId)}`);
  if (isLoading) return h(ChakraUI.Spinner, { "aria-label": "Loading", m: 3 });
  const foreign = error?.status === 404;
  return h(
    Flex,
    { direction: "column", gap: 5, p: 3 },
    foreign && h(Text, { color: "fg.muted" }, error.message),
    error && !foreign && h(Banner, { title: "The stream cannot be shown" }, error.message),
    data && h(Details, { data }),
  );
}
