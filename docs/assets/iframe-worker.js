// A worker for pages that are opened from a file, where browsers start none: a hidden frame that
// runs the worker's script and passes messages on. The search of the site needs it.
if (location.protocol === "file:") {
  window.IFrameWorker = class extends EventTarget {
    constructor(url) {
      super()
      this.frame = document.createElement("iframe")
      this.frame.hidden = true
      document.body.appendChild(this.frame)
      const inner = this.frame.contentWindow
      this.ready = new Promise((resolve) => {
        window.addEventListener("message", (event) => {
          if (event.source !== inner) return
          if (event.data === "worker ready") return resolve()
          const message = new MessageEvent("message", { data: event.data })
          this.dispatchEvent(message)
          if (this.onmessage) this.onmessage(message)
        })
      })
      inner.document.open()
      inner.document.write(
        "<script>postMessage = (data) => parent.dispatchEvent(new MessageEvent('message'," +
          " { data, source: window }))</script>" +
          `<script src="${url}"></script><script>postMessage("worker ready")</script>`
      )
      inner.document.close()
    }
    postMessage(data) {
      this.ready.then(() => {
        this.frame.contentWindow.dispatchEvent(new MessageEvent("message", { data }))
      })
    }
    terminate() {
      this.frame.remove()
    }
  }
  window.Worker = window.IFrameWorker
}
