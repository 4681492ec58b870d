//! The Merkle tree over the audit log, in the transaction that appends. The tree is behind the log where records were
//! written by a version that had none; it is then made up for before anything is appended.

use super::decode::{column, damaged, digest, hex, number};
use super::sql::{Columns as _, Sql, built, query};
use super::{Digest, StoreError, read};
use data_encoding::HEXLOWER;
use tobari_core::audit::{Frontier, Growth, leaf_hash};

/// Records that are read at once while the tree is made up for.
const PAGE: u32 = 4096;
/// Nodes in one INSERT.
const NODES: usize = 500;

/// What the row says; the tree of no records where there is none.
pub(super) fn decode(size: Option<i64>, frontier: Option<&str>) -> Result<Frontier, StoreError> {
    let (Some(size), Some(frontier)) = (size, frontier) else { return Ok(Frontier::default()) };
    let wrong = || damaged("audit_tree", "not the roots of a tree");
    let bytes = HEXLOWER.decode(frontier.as_bytes()).map_err(|_| wrong())?;
    let roots: Result<Vec<Digest>, StoreError> =
        bytes.chunks(32).map(|root| root.try_into().map_err(|_| wrong())).collect();
    Frontier::from_parts(number("audit_tree", Ok(size))?, roots?).ok_or_else(wrong)
}

/// The tree as it is stored.
pub(super) async fn audit_frontier(connection: &mut impl Sql) -> Result<Frontier, StoreError> {
    let select = query("SELECT size, frontier FROM audit_tree WHERE id = 1");
    let Some(row) = connection.optional(select).await? else { return Ok(Frontier::default()) };
    let frontier: String = column("audit_tree", row.try_get("frontier"))?;
    decode(Some(column("audit_tree", row.try_get("size"))?), Some(&frontier))
}

/// At most `count` nodes of a level, from a position on.
pub(super) async fn audit_nodes(
    connection: &mut impl Sql,
    level: u32,
    first: u64,
    count: u32,
) -> Result<Vec<Digest>, StoreError> {
    let select = query(
        "SELECT hash FROM audit_nodes WHERE level = $1 AND ordinal >= $2 AND ordinal < $3 ORDER BY ordinal",
    );
    let first = i64::try_from(first).unwrap_or(i64::MAX);
    let select = select.bind(i64::from(level)).bind(first).bind(first.saturating_add(i64::from(count)));
    connection.all(select).await?.iter().map(|row| digest("audit_nodes", row.try_get("hash"))).collect()
}

/// Makes up for records that are in no tree yet, up to the record `last`.
pub(super) async fn catch_up(
    connection: &mut impl Sql,
    mut tree: Frontier,
    last: u64,
) -> Result<Frontier, StoreError> {
    if tree.size() > last {
        return Err(StoreError::AuditBroken(format!(
            "it ends at record {last}, its tree at {}",
            tree.size()
        )));
    }
    while tree.size() < last {
        let rows = read::audit_page(connection, tree.size(), PAGE).await?;
        let expected = tree.size() + 1..;
        if rows.is_empty() || rows.iter().zip(expected).any(|(row, expected)| row.sequence != expected) {
            return Err(StoreError::AuditBroken(format!("the record after {} is missing", tree.size())));
        }
        let leaves = rows.iter().map(|row| leaf_hash(&row.payload)).collect();
        let growth = Growth::new(tree, leaves);
        grow(connection, &growth).await?;
        tree = growth.after().clone();
    }
    Ok(tree)
}

/// Stores what an append adds to the tree.
pub(super) async fn grow(connection: &mut impl Sql, growth: &Growth) -> Result<(), StoreError> {
    let after = growth.after();
    if after.size() == growth.before().size() {
        return Ok(());
    }
    let nodes: Vec<_> = growth.stored().collect();
    for nodes in nodes.chunks(NODES) {
        let list: Vec<String> = (0..nodes.len())
            .map(|node| format!("(${}, ${}, ${})", 3 * node + 1, 3 * node + 2, 3 * node + 3))
            .collect();
        let text = format!("INSERT INTO audit_nodes (level, ordinal, hash) VALUES {}", list.join(", "));
        let mut insert = built(text, nodes.len() == 1);
        for (level, position, hash) in nodes {
            let position = i64::try_from(*position).unwrap_or(i64::MAX);
            insert = insert.bind(i64::from(*level)).bind(position).bind(hash.to_vec());
        }
        connection.execute(insert).await.map_err(|error| match error {
            StoreError::Taken(_) => {
                StoreError::AuditBroken(String::from("its tree has nodes of later records"))
            }
            error => error,
        })?;
    }
    let put = query(
        "INSERT INTO audit_tree (id, size, frontier) VALUES (1, $1, $2) \
         ON CONFLICT (id) DO UPDATE SET size = excluded.size, frontier = excluded.frontier",
    );
    let roots = hex(&after.roots().concat());
    let size = i64::try_from(after.size()).unwrap_or(i64::MAX);
    connection.execute(put.bind(size).bind(roots)).await.map(|_| ())
}
