from tests.support.threads import torch_on_one_thread

__all__ = ["torch_on_one_thread"]
