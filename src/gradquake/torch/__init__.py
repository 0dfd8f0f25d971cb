"""gradquake in any PyTorch training loop.

>>> import torch
>>> import gradquake.torch as gqt
>>> model = torch.nn.Linear(8, 1)
>>> optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
>>> with gqt.attach(model, optimizer, every=1) as quake:
...     for _ in range(3):
...         optimizer.zero_grad()
...         loss = model(torch.ones(4, 8)).square().mean()
...         loss.backward()
...         optimizer.step()
...         quake.log(loss=loss)
>>> quake.dataset["epoch"].values.tolist()
[0, 1, 2]
"""

from gradquake.torch.attaching import attach
from gradquake.torch.exchange import Exchange
from gradquake.torch.quake import Quake
from gradquake.torch.schedules import every, logarithmic

__all__ = ["Exchange", "Quake", "attach", "every", "logarithmic"]
