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
  useAnswer,
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

function Details({ answer }) {
  const [stream] = answer.streams;
  const { good } = stream;
  return [
    h(Problems, { key: "problems", platform: answer }),
    answer.unread &&
      !answer.outage &&
      h(Banner, { key: "unread", title: "Not all can be shown" }, answer.unread),
    h(
      HStack,
      { key: "state", gap: 3 },
      h(Heading, { size: "md" }, stream.key),
      h(StateBadge, { state: stream.state, colour: stream.colour }),
      h(Text, { fontSize: "sm" }, stream.reason),
    ),
    h(
      HStack,
      { key: "facts", gap: 8, wrap: "wrap", alignItems: "flex-start" },
      h(Fact, { name: "Platform" }, answer.platform),
      h(
        Fact,
        { name: "Last good batch" },
        good ? `${asTime(good.ended)} (${asAge(good.ended, answer.at)})` : "none",
      ),
      h(Fact, { name: "Its rows" }, good?.rows ?? ""),
      h(Fact, { name: "Schedule" }, stream.schedule),
      h(Fact, { name: "Revision" }, stream.revision),
    ),
    h(Listed, {
      key: "batches",
      title: "Newest batches",
      headings: ["batch", "status", "started", "ended", "rows", "in the source"],
      rows: answer.batches.map((batch) => [batch.number, cellsOfBatch(batch)]),
      none: "No job of this stream has written a batch.",
    }),
    h(Listed, {
      key: "changes",
      title: "Newest changes",
      headings: ["revision", "time", "who", "how", "action", "what"],
      rows: answer.changes.map((change) => [change.revision, cellsOfChange(change)]),
      none: "No change of its row is on record.",
    }),
  ];
}

export function Stream({ dagId }) {
  const { answer, error } = useAnswer(`streams/${encodeURIComponent(dagId)}`);
  const foreign = error?.status === 404;
  return h(
    Flex,
    { direction: "column", gap: 5, p: 3 },
    foreign && h(Text, { color: "fg.muted" }, error.message),
    error && !foreign && h(Banner, { title: "The stream cannot be shown" }, error.message),
    !answer && !error && h(ChakraUI.Spinner, { "aria-label": "Loading" }),
    answer && h(Details, { answer }),
  );
}
