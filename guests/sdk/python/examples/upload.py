"""A form with a file."""

import hashlib

from cloakroom import App, Reply, Request, abort

app = App()


@app.get("/upload")
def form(request: Request) -> Reply:
    return (
        '<form method="post" enctype="multipart/form-data"><input name="title"><input name="file" type="file">'
        "<button>send</button></form>"
    )


@app.post("/upload")
def upload(request: Request) -> Reply:
    file = request.files.get("file")
    if file is None:
        abort(400, "there is no file")
    return {
        "title": request.form["title"],
        "name": file.filename,
        "type": file.content_type,
        "sha256": hashlib.sha256(file.data).hexdigest(),
    }
