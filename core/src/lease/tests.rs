mod document;
mod time;
mod vector;
