"""Which types of transformers are made tiny and proven, and why the others are not."""

from __future__ import annotations

from typing import Any

from .harness import ZooEntry
from .tiny_transformers import tiny

TINY = """
afmoe aimv2_vision_model albert apertus apertus1p5_text arcee aria_text axk1 axk2 bailing_hybrid bart beam beit bert
bert-generation big_bird bigbird_pegasus biogpt bitnet blenderbot blenderbot-small bloom camembert
chinese_clip_vision_model clip clip_text_model clip_vision_model codegen cohere cohere2 cohere2_moe convbert
cosmos3_edge_text cpmant ctrl cwm d_fine data2vec-audio data2vec-text data2vec-vision deberta deberta-v2 deepseek_v3
deepseek_v32 deepseek_v4 deimv2 deit diffllama dinov2 dinov2_with_registers dinov3_convnext dinov3_vit distilbert doge
dory dots3_note_text dpr dpt electra embedding_gemma2 embedding_gemma2_text ernie ernie4_5 ernie4_5_moe eurobert
exaone exaone4 exaone_moe falcon falcon_mamba fastspeech2_conformer flex_olmo flint focalnet fsmt funnel fuyu gemma
gemma2 gemma3_text gemma4 gemma4_text gemma4_unified gemma4_unified_text glm glm4 glm4_moe glm4_moe_lite
glm5_next_text glm_moe_dsa glmasr_encoder glpn gpt-sw3 gpt2 gpt_bigcode gpt_neo gpt_neox gpt_neox_japanese gpt_oss
gptj gradium_phonon_tts granite granite_docling_text granite_docling_vision granite_swa granitemoe granitemoe_swa
granitemoeshared gte helium hgnet_v2 hiera higgs_audio_v2 hubert hy_v3 hy_v4 hy_v4_vl_text hyperclovax ibert
idefics3_vision ijepa imagegpt inkling2_loop_text inkling2_text inkling_text internlm3 internvl_vision iquestcoder
jais2 jamba jetmoe jina_embeddings_v3 kimi_linear kolibri1 lara_mini layoutlm led lfm2 lfm3 llama llama4_text
longformer luke m2m_100 mamba marian markuplm maskformer maskformer-swin mbart megatron-bert mellum metaclip_2 mgp-str
minicpm3 minimax minimax_m2 minimax_m3_vl_text ministral3 mistral mistral_large4_text mixtral mlcd mlcd_vision_model
mobilebert mobilenet_v1 mobilenet_v2 mobilevit modernbert modernbert-decoder molmo2_text moonshine mpnet mpt mra mt5
muse_glimmer_text muse_spark_text mvp nanochat nllb-moe nomic_bert nystromformer olmo olmo2 olmo3 olmo_hybrid olmoe
openai-gpt openai_privacy_filter opt patchtsmixer patchtst pegasus pegasus_x persimmon phi phi3 phimoe pixio pixtral
plbart pocket_tts pp_doclayout_v4 pp_ocrv5_server_rec prophetnet pvt_v2 qianfan_ocr_vision qwen2 qwen2_moe qwen3
qwen3_5_moe_text qwen3_5_text qwen3_moe qwen3_next qwen3_vl_moe_text qwen3_vl_text recurrent_gemma regnet rembert
resnet roberta roberta-prelayernorm roc_bert roformer rt_detr rt_detr_v2 rwkv sam3_vision_model sam3_vit_model
sam_hq_vision_model sam_vision_model sapiens2 sarvam_mla sarvam_moe seamless_m4t seamless_m4t_v2 seed_oss segformer
siglip siglip_vision_model smollm3 smolvlm_vision solar_open splinter squeezebert stablelm starcoder2 swiftformer
swin2sr swinv2 switch_transformers t5 t5gemma t5gemma2 tapas timesformer tipsv2_text_model tipsv2_vision_model
ultrabert umt5 unispeech unispeech-sat vaultgemma videomae videoprism videoprism_vision_model visual_bert vit vit_msn
vitdet vivit vjepa2 voxtral_realtime_encoder wav2vec2 wavlm whisper xglm xlm-roberta xlm-roberta-xl xlnet xlstm yolos
yoso youtu zaya
"""
"""Types that the rules of ``tiny_transformers`` make tiny."""
_SPARSE = ("deepseek_v32", "glm_moe_dsa", "hy_v4", "hy_v4_vl_text", "mistral_large4_text")
# They choose keys by the largest of scores that are often exactly 0; which of equal ones topk takes is not defined.
SETTINGS: dict[str, dict[str, Any]] = {name: {"index_topk": 64} for name in _SPARSE}
"""What those rules do not get right."""
_BY_CONTENT = "torch.export: decides in Python by a tensor's contents"
_BY_ITEM = "takes a number out of a tensor, which is no part of a static graph"
UNABLE: dict[str, tuple[str, str]] = {
    **dict.fromkeys(
        ("fastspeech2_conformer", "fsmt", "led", "longformer"), (r"data-dependent expression", _BY_CONTENT)
    ),
    **dict.fromkeys(
        ("d_fine", "deimv2", "jetmoe", "rt_detr_v2", "vjepa2"), (r"Data-dependent value in node", _BY_ITEM)
    ),
    **dict.fromkeys(
        ("glm5_next_text", "higgs_audio_v2"),
        (r"Dynamic shape detected", "selects by a mask, so that a size follows from contents"),
    ),
    **dict.fromkeys(("rt_detr", "pp_doclayout_v4"), (r"dtype float64", "positions are computed in float64")),
    "fnet": (r"fft_fftn", "PyTorch's Fourier transform, in complex numbers"),
    "llama4_text": (r"complex numbers", "rotary positions as complex numbers"),
    "rwkv": (r"writes its parameter .* in place", "rescales its own weights when it runs"),
    "switch_transformers": (r"Couldn't swap Linear", "torch.export: casts a layer's weights while it runs"),
    "t5gemma2": (r"modeling_t5gemma2", "its masks call functions of PyTorch's own set-up while they are traced"),
}
"""Those of the tried that cannot be done: a pattern of the failure, and why."""

_TEXT_ALONE = (
    "text beside pictures or sound: its processor places them between the words, and words alone would leave a part out"
)
_INPUTS = "takes what only its processor makes: more than words, one picture or sound"
_SIZES = "sizes in its configuration depend on one another in a way that the rules for tiny ones do not know"
_LARGE = "has more than 20 million parameters still, under the rules for tiny ones"
_LEFT_OUT = {
    _TEXT_ALONE: """
aria audioflamingo3 aya_vision cohere2_vision cosmos3_edge cosmos3_omni deepseek_vl deepseek_vl_hybrid evolla
exaone4_5 flava florence2 fun_asr_nano gemma3 git glm5_next glmasr got_ocr2 granite_docling granite_speech
granite_speech_plus hy_v4_vl hyperclovax_vision_v2 idefics2 idefics3 inkling2 inkling2_loop internvl kimi_k25
kosmos-2.5 lfm2_vl lfm3_vl lighton_ocr llava llava_next llava_next_video llava_onevision minicpm_ocr minicpmv4_6
minicpmv4_7 minimax_m3_vl mistral3 mistral_large4 mllama modernvbert molmo2 moshi moss_transcribe_diarize muse_glimmer
muse_spark musicflamingo omniasr ovis2 paligemma phi4_multimodal qianfan_ocr qwen2_audio qwen3_asr
qwen3_omni_moe_thinker qwen3_vl qwen3_vl_moe smolvlm tipsv2 ultravbert unlimited_ocr video_llama_3 video_llava
vipllava voxtral
""",
    _INPUTS: """
aimv2 align altclip audioflamingo3_encoder bark blip blip_2_qformer chameleon chinese_clip clap clipseg
cohere_compass_vision cosmos3_edge_vision decision_transformer deepseek_ocr2 dots1 efficientloftr exaone4_5_vision
fun_asr_nano_encoder gemma3n_audio gemma4_vision glm4v_moe_vision glm4v_vision glm5_next_vision glm_image_vision
glm_image_vqmodel glm_ocr_vision groupvit hunyuan_vl_vision hy_v4_vl_vision idefics inkling2_vision instructblip
instructblipvideo kimi_k25_vision kosmos-2 lfm2_moe lfm3_vl_vision lightglue lxmert minicpm_ocr_vision
minicpmv4_7_vision muse_glimmer_assistant muse_glimmer_vision muse_spark_vision nemotron3_5_transcribe_word_timestamp
owlv2 owlvit perception_lm pi0 pp_ocrv6_medium_det qwen2_5_vl_vision qwen3_5_moe_vision qwen3_5_vision
qwen3_asr_encoder qwen3_vl_moe_vision qwen3_vl_vision qwen4_exp_vision sam3 sam3_lite_text sam3_lite_text_text_model
sam3_tracker_video sam3_video seggpt siglip2_vision_model timesfm tvp video_llama_3_vision vilt
vision-text-dual-encoder voxtral_realtime xclip
""",
    _SIZES: """
autoformer bit blip-2 bridgetower bros canary clvp cohere_asr cohere_compass cohere_compass_text convnextv2 csm cvt
dac dbrx deepseek_v2 depth_pro dia diffusion_gemma donut-swin dots3_note edgetam edgetam_vision_model efficientnet
emu3 encodec ernie4_5_vl_moe esm esmc falcon_h1 fastspeech2_conformer_with_hifigan gemma3n gemma3n_text gemma4_audio
glm46v glm4v glm4v_moe glm4v_moe_text glm4v_text glm_image glm_image_text glm_ocr glm_ocr_text glmga granite4_vision
granite_speech5_ctc granite_speech5_encoder granitemoehybrid grounding-dino hunyuan_v1_dense hunyuan_v1_moe hunyuan_vl
hunyuan_vl_text informer kyutai_speech_to_text laguna lasr_ctc lasr_encoder layoutlmv3 levit lilt llama4 longcat_flash
lw_detr mask2former mimi mimi_decoder mimi_encoder mimo_v2_flash ministral mistral4 mm-grounding-dino mobilevitv2
moonshine_streaming moss_transcribe_diarize_audio muse_spark_audio musicgen musicgen_melody nemo_speechlm nemotron
nemotron3_5_asr nemotron3_5_transcribe_asr_audio nemotron3_5_transcribe_audio nemotron3_diarization
nemotron3_diarization_audio nemotron_asr_streaming nemotron_asr_streaming_encoder nemotron_h neomme neucodec
omniasr_audio omniasr_ctc oneformer paddleocr_vl parakeet_ctc parakeet_encoder parakeet_rnnt parakeet_tdt pe_audio
pe_audio_encoder pocket_tts_audio_tokenizer pocket_tts_audio_tokenizer_decoder pocket_tts_audio_tokenizer_encoder
pp_doclayout_v3 pp_ocrv5_mobile_rec pp_ocrv6_small_det pp_ocrv6_small_rec pp_ocrv6_tiny_rec pvt qwen2_5_omni_thinker
qwen2_5_vl qwen2_5_vl_text qwen2_audio_encoder qwen2_vl qwen2_vl_text qwen3_5 qwen3_5_moe qwen4_exp qwen4_exp_text
radio reformer rf_detr sam sam3_tracker sam_hq sew sew-d siglip2 speech_to_text speecht5 step3p7 t5gemma2_encoder
textnet time_series_transformer timesfm2_5 timm_backbone udop univnet uvdoc vits voxtral_encoder voxtral_realtime_text
wav2vec2-bert wav2vec2-conformer wavtokenizer wavtokenizer_encoder xcodec xcodec2 xmod zamba zamba2
""",
    _LARGE: """
apertus1p5 blt conditional_detr dab-detr deformable_detr edgetam_video fast_vlm flaubert gemma3n_vision janus
omdet-turbo pe_audio_video pe_audio_video_encoder pe_video pe_video_encoder perceiver sam2 sam2_hiera_det_model
sam2_video sam2_vision_model table-transformer timm_wrapper vibevoice vibevoice_acoustic_tokenizer
vibevoice_acoustic_tokenizer_decoder vibevoice_acoustic_tokenizer_encoder vibevoice_asr xlm
""",
    "gives the same value throughout when tiny, which proves nothing": "canine",
    "unrolls a thousand rounds into seven thousand nodes": "hrm_text",
    "needs natten, which is not part of the environment": "dinat",
    "needs torchaudio, which is not part of the environment": "higgs_audio_v2_tokenizer",
    "needs scipy, which is not part of the environment": "inkling_mm_model",
    "needs detectron2, which is not part of the environment": "layoutlmv2",
}


def left_out() -> dict[str, str]:
    """The reason for each type that is not tried."""
    reasons = {name: reason for reason, words in _LEFT_OUT.items() for name in words.split()}
    assert len(reasons) == sum(len(words.split()) for words in _LEFT_OUT.values()), "a type is listed twice"
    return reasons


def by_hand() -> dict[str, ZooEntry]:
    """The first entry of each type among those that are written out."""
    import transformers

    from .huggingface_models import ENTRIES

    found: dict[str, ZooEntry] = {}
    for entry in ENTRIES:
        config = entry.build.args[1]  # type: ignore[attr-defined]
        found.setdefault(getattr(transformers, config).model_type, entry)
    return found


def entries() -> dict[str, ZooEntry]:
    """One for each type that is tried."""
    made = {name: tiny(name, **SETTINGS.get(name, {})) for name in TINY.split()}
    return {**by_hand(), **made}
