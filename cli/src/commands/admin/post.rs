//! `admin post`.

use super::server::{Server, show, show_list, something};
use crate::app::App;
use crate::args::admin::Post;
use crate::error::Error;
use tobari_core::policy;
use tobari_core::proto::admin::PostInput;

const COLUMNS: [&str; 3] = ["name", "rank", "id"];

pub(super) fn run(args: Post, server: &mut Server, app: &mut App) -> Result<(), Error> {
    let record: policy::Post = match args {
        Post::List => {
            let mut posts = server.posts()?;
            posts.sort_by(|a, b| (b.rank, &a.name).cmp(&(a.rank, &b.name)));
            return show_list(app, "posts", &posts, &COLUMNS, row);
        }
        Post::Show(named) => {
            let id = server.post_id(&named.name)?;
            server.get(&format!("/v1/admin/posts/{id}"))?
        }
        Post::Add(args) => {
            let record = server.post("posts", &PostInput { name: args.name, rank: args.rank })?;
            server.changed(app);
            record
        }
        Post::Set(args) => {
            something(args.name.is_some() || args.rank.is_some())?;
            let id = server.post_id(&args.target)?;
            let old: policy::Post = server.get(&format!("/v1/admin/posts/{id}"))?;
            let input =
                PostInput { name: args.name.unwrap_or(old.name), rank: args.rank.unwrap_or(old.rank) };
            let record = server.put("posts", id, &input)?;
            server.changed(app);
            record
        }
        Post::Remove(named) => {
            let id = server.post_id(&named.name)?;
            return server.remove(app, "posts", id);
        }
    };
    show(app, &record, &COLUMNS, row)
}

fn row(_: &App, post: &policy::Post) -> Vec<String> {
    vec![post.name.clone(), post.rank.to_string(), post.id.to_string()]
}
